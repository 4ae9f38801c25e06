package asynctool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// notSetUp is what the caller hears if a tool lacks a setting.
const notSetUp = "I'm sorry, this service isn't available right now."

// NotSetUp returns the failure of a tool whose settings are missing or invalid. The cause is for the
// operator. The caller hears that the service isn't available.
func NotSetUp(cause error) error { return Fail(notSetUp, cause) }

// settings checks the names of a tool's settings, and returns each of them once.
func settings(names []string) ([]string, error) {
	var once []string
	for _, name := range names {
		if !consistsOf(name, "_") || '0' <= name[0] && name[0] <= '9' {
			return nil, fmt.Errorf("the setting %q is not the name of an environment variable; "+
				"use letters, digits and _, a letter first", name)
		}
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once, nil
}

// A SettingError says that a tool cannot work with the values of some of its settings.
type SettingError struct {
	Tool   string   // its name; empty in an error of CheckSettings
	Names  []string // of the settings
	Reason error    // never has the values
}

func (e *SettingError) Error() string {
	by := ""
	if e.Tool != "" {
		by = " by the tool " + e.Tool
	}
	return fmt.Sprintf("%s cannot be used%s: %v", strings.Join(e.Names, " and "), by, e.Reason)
}

func (e *SettingError) Unwrap() error { return e.Reason }

// InvalidSetting returns an error for [Tool.CheckSettings] that names settings. The reason is a clause, such as "it
// is not an address", and must not contain the values of the settings, which may be secrets.
func InvalidSetting(reason error, names ...string) error {
	return &SettingError{Names: names, Reason: reason}
}

// missing returns the settings that getenv has no value for.
func (e *Entry) missing(getenv func(string) string) []string {
	return slices.DeleteFunc(slices.Clone(e.Settings), func(name string) bool {
		return strings.TrimSpace(getenv(name)) != ""
	})
}

// invalid returns what is wrong with the settings that have a value.
func (e *Entry) invalid(lookup func(string) (string, bool)) (wrong []*SettingError) {
	if e.checkValues == nil {
		return nil
	}
	known := func(name string) (string, bool) {
		value, ok := lookup(name)
		if !ok || strings.TrimSpace(value) == "" {
			return "", false
		}
		return value, true
	}
	var asked []string
	err := e.checkValues(func(name string) (string, bool) {
		if !slices.Contains(asked, name) {
			asked = append(asked, name)
		}
		return known(name)
	})
	for _, err := range each(err) {
		found := &SettingError{Tool: e.Name, Names: asked, Reason: err}
		if named, ok := errors.AsType[*SettingError](err); ok {
			found.Names, found.Reason = named.Names, named.Reason
		}
		// What is wrong with a value that is unknown may be that it is unknown.
		if !slices.ContainsFunc(found.Names, func(name string) bool { _, ok := known(name); return !ok }) {
			wrong = append(wrong, found)
		}
	}
	return wrong
}

// each returns the errors that were joined.
func each(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, each(err)...)
	}
	return all
}

// checkSettings returns the failure of a tool that lacks a setting, or cannot work with its value. It returns nil
// if there is none.
func (e *Entry) checkSettings() error {
	if missing := e.missing(e.getenv); len(missing) > 0 {
		return NotSetUp(errors.New("not set in the environment: " + strings.Join(missing, ", ")))
	}
	wrong := e.invalid(func(name string) (string, bool) { return e.getenv(name), true })
	if len(wrong) > 0 {
		return NotSetUp(wrong[0])
	}
	return nil
}

// Missing returns the settings that each tool lacks, by the tool's name. A tool that has all of its settings
// is not in it. getenv returns the value of a setting; nil means [os.Getenv]. White space counts as no
// value.
//
//	for tool, names := range set.Missing(nil) {
//		fmt.Println(tool, "lacks", strings.Join(names, ", "))
//	}
func (s *Set) Missing(getenv func(string) string) map[string][]string {
	if getenv == nil {
		getenv = os.Getenv
	}
	lacking := make(map[string][]string)
	for _, e := range s.entries {
		if missing := e.missing(getenv); len(missing) > 0 {
			lacking[e.Name] = missing
		}
	}
	return lacking
}

// Invalid returns what is wrong with the values of settings, in the order of the tools: what their CheckSettings
// returns. lookup returns the value of a setting, and whether it is known; nil means [os.LookupEnv]. A setting that
// is missing is not invalid: see [Set.Missing].
func (s *Set) Invalid(lookup func(name string) (value string, known bool)) []*SettingError {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	var wrong []*SettingError
	for _, e := range s.entries {
		wrong = append(wrong, e.invalid(lookup)...)
	}
	return wrong
}
