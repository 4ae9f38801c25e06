package job

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/ringback/ringback/internal/jsonscan"
)

// recordVersion is written into every record. A change that older functions must not touch takes the
// next number. A new member does not: older functions keep it. Records without a version are from
// before there were versions.
const recordVersion = 1

// Unknown are members of a JSON object that this version does not know, because a newer version wrote
// them: `"name":value`, joined by commas. They are written again with the object. It is a string, so
// that objects stay comparable.
type Unknown string

// EncodeRecord returns a record as JSON.
func EncodeRecord(record any) ([]byte, error) {
	b, err := marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	version := strconv.AppendInt([]byte(`{"version":`), recordVersion, 10)
	return append(append(version, ','), b[1:]...), nil // a record has members
}

// DecodeRecord reads what [EncodeRecord] returned into a record. Its error wraps [ErrUnreadable],
// also if a newer version wrote a record that this one must not touch.
func DecodeRecord(b []byte, record any) error {
	if err := json.Unmarshal(b, record); err != nil {
		return fmt.Errorf("%w: decode a record: %s", ErrUnreadable, withoutValues(err))
	}
	version := 0
	err := collect(b, reflect.ValueOf(record), func(value []byte) (err error) {
		version, err = strconv.Atoi(string(value))
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: decode a record: its version is no number", ErrUnreadable)
	case version > recordVersion:
		return fmt.Errorf(
			"%w: a record of version %d; this program reads version %d", ErrUnreadable, version, recordVersion,
		)
	}
	return nil
}

// marshal is [json.Marshal] with the unknown members.
func marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if value := reflect.ValueOf(v); err == nil && hasUnknown(value) {
		return restore(nil, b, value), nil
	}
	return b, err
}

// unmarshal is [json.Unmarshal] with the unknown members.
func unmarshal(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	return collect(b, reflect.ValueOf(v), nil)
}

// shape is what collect needs to know of the type of an object.
type shape struct {
	fields  map[string]int // by member
	deep    []bool         // whether the field can have unknown members in it
	unknown int            // the field of type [Unknown]; -1 means that there is none
}

var (
	unknownType = reflect.TypeFor[Unknown]()
	shapes      sync.Map // of *shape, by type
)

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{fields: make(map[string]int), deep: make([]bool, t.NumField()), unknown: -1}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == unknownType {
			s.unknown = i
		} else if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			s.fields[name], s.deep[i] = i, keeps(f.Type)
		}
	}
	shapes.Store(t, s)
	return s
}

// keeps reports whether a value of a type can have unknown members in it.
func keeps(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return keeps(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.Type == unknownType || f.IsExported() && keeps(f.Type) {
				return true
			}
		}
	}
	return false
}

// collect sets the unknown members of a value that was decoded from b. It calls version with the
// member "version" of the outermost object, unless version is nil.
func collect(b []byte, v reflect.Value, version func([]byte) error) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return collect(b, v.Elem(), version)
	case reflect.Slice:
		for i, item := range jsonscan.Items(b, v.Len()) {
			if err := collect(item, v.Index(i), nil); err != nil {
				return err
			}
		}
	case reflect.Map:
		return jsonscan.Members(b, func(name, value []byte) error {
			key := reflect.ValueOf(string(name)).Convert(v.Type().Key())
			item := reflect.New(v.Type().Elem()).Elem()
			item.Set(v.MapIndex(key))
			err := collect(value, item, nil)
			v.SetMapIndex(key, item)
			return err
		})
	case reflect.Struct:
		s := shapeOf(v.Type())
		var unknown []byte
		err := jsonscan.Members(b, func(name, value []byte) error {
			i, known := s.fields[string(name)]
			switch {
			case !known && version != nil && string(name) == "version":
				return version(value)
			case !known && s.unknown >= 0:
				unknown = append(appendName(unknown, name), value...)
			case known && s.deep[i]:
				return collect(value, v.Field(i), nil)
			}
			return nil
		})
		if len(unknown) > 0 {
			v.Field(s.unknown).SetString(string(unknown))
		}
		return err
	}
	return nil
}

// hasUnknown reports whether a value has unknown members in it.
func hasUnknown(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && hasUnknown(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if hasUnknown(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for _, item := range v.Seq2() {
			if hasUnknown(item) {
				return true
			}
		}
	case reflect.Struct:
		s := shapeOf(v.Type())
		if s.unknown >= 0 && v.Field(s.unknown).Len() > 0 {
			return true
		}
		for i, deep := range s.deep {
			if deep && hasUnknown(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

// restore appends the JSON of a value, with its unknown members, to out. b is the JSON without them.
func restore(out, b []byte, v reflect.Value) []byte {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() || !keeps(v.Type()) {
		return append(out, b...)
	}
	// The JSON was made a moment ago, so it is valid.
	switch v.Kind() {
	case reflect.Slice:
		out = append(out, '[')
		for i, item := range jsonscan.Items(b, v.Len()) {
			out = restore(separate(out), item, v.Index(i))
		}
		return append(out, ']')
	case reflect.Map:
		out = append(out, '{')
		_ = jsonscan.Members(b, func(name, value []byte) error {
			key := reflect.ValueOf(string(name)).Convert(v.Type().Key())
			out = restore(appendName(out, name), value, v.MapIndex(key))
			return nil
		})
		return append(out, '}')
	case reflect.Struct:
		s := shapeOf(v.Type())
		out = append(out, '{')
		_ = jsonscan.Members(b, func(name, value []byte) error {
			out = restore(appendName(out, name), value, v.Field(s.fields[string(name)]))
			return nil
		})
		if s.unknown >= 0 && v.Field(s.unknown).Len() > 0 {
			out = append(separate(out), v.Field(s.unknown).String()...)
		}
		return append(out, '}')
	}
	return append(out, b...) // null
}

// separate appends a comma, unless out is empty or ends with the beginning of an object or array.
func separate(out []byte) []byte {
	if n := len(out); n == 0 || out[n-1] == '{' || out[n-1] == '[' {
		return out
	}
	return append(out, ',')
}

// appendName appends the name of a member, and what separates it from the one before.
func appendName(out, name []byte) []byte {
	quoted, _ := json.Marshal(string(name)) // a string can always be encoded
	return append(append(separate(out), quoted...), ':')
}
