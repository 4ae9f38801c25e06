package completion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/spoken"
)

// errBody means that a body cannot be used. It is wrapped with the reason, for the sender, which
// contains nothing of the body.
var errBody = errors.New("the body cannot be used")

// post is a parsed body.
type post struct {
	kind   job.Kind
	status job.Status // of a result
	text   string
	silent bool // of progress
	bytes  int  // of the body

	traceparent string // of the job; empty until its record is read
}

// parse reads a body: a JSON object of any content type, or a text.
func parse(contentType string, body []byte) (post, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // some senders add it
	if !utf8.Valid(body) {
		return post{}, fmt.Errorf("%w: it is not UTF-8", errBody)
	}
	kind, _, err := mime.ParseMediaType(contentType)
	plain := strings.TrimSpace(contentType) == "" || err == nil && kind == "text/plain"
	switch {
	case bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) && json.Valid(body):
		return parseObject(body)
	case plain:
		return checked(post{kind: job.KindFinal, status: job.StatusOK, text: string(body)})
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		return post{}, fmt.Errorf("%w: it is not a JSON object", errBody)
	default: // such as a form, or a page that reports an error
		return post{}, fmt.Errorf(
			"%w: it is not a JSON object, and its Content-Type is neither application/json nor text/plain", errBody)
	}
}

// parseObject reads a body that is a JSON object.
func parseObject(body []byte) (post, error) {
	members, err := membersOf(body)
	if err != nil {
		return post{}, err
	}
	p := post{kind: job.KindFinal, status: job.StatusOK}
	given := 0
	for _, m := range []struct {
		name string
		set  func()
	}{
		{"result", func() {}},
		{"error", func() { p.status = job.StatusError }},
		{"progress", func() { p.kind, p.status = job.KindProgress, "" }},
	} {
		value, ok := members[m.name]
		if !ok {
			continue
		}
		given++
		m.set()
		switch {
		case value[0] == '"':
			_ = json.Unmarshal(value, &p.text) // it is a string
		case m.name == "result":
			var compact bytes.Buffer
			_ = json.Compact(&compact, value)
			p.text = compact.String()
		default:
			return post{}, fmt.Errorf("%w: its member %s is not a string", errBody, m.name)
		}
	}
	if given != 1 {
		return post{}, fmt.Errorf("%w: it must have exactly one of the members result, error and progress", errBody)
	}
	if silent, ok := members["silent"]; ok {
		if p.kind != job.KindProgress {
			return post{}, fmt.Errorf("%w: its member silent is allowed with progress only", errBody)
		}
		if json.Unmarshal(silent, &p.silent) != nil {
			return post{}, fmt.Errorf("%w: its member silent is neither true nor false", errBody)
		}
	}
	return checked(p)
}

// membersOf returns the members of a JSON object that are not null. Many senders write null for
// members that they do not use.
func membersOf(object []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token()
	members := make(map[string]json.RawMessage)
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		name, _ := token.(string)
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		switch {
		case err != nil: // such as nested too deeply
			return nil, fmt.Errorf("%w: it is not a JSON object that can be read", errBody)
		case seen[name]:
			return nil, fmt.Errorf("%w: it has one member twice", errBody)
		case name != "result" && name != "error" && name != "progress" && name != "silent":
			return nil, fmt.Errorf("%w: it has a member other than result, error, progress and silent", errBody)
		}
		seen[name] = true
		if string(value) != "null" {
			members[name] = value
		}
	}
	return members, nil
}

// checked refuses a post whose text has no visible character, and cuts long texts.
func checked(p post) (post, error) {
	if strings.TrimSpace(spoken.Clean(p.text)) == "" {
		return post{}, fmt.Errorf("%w: its text is empty", errBody)
	}
	p.text = spoken.Cut(p.text)
	return p, nil
}
