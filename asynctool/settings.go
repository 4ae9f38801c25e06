package asynctool

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// notSetUp is what the caller hears if a tool lacks a setting.
const notSetUp = "I'm sorry, this service isn't available right now."

// NotSetUp returns the failure of a tool whose settings are missing or invalid. The cause is for the
// operator. The caller hears that the service isn't available.
func NotSetUp(cause error) error { return Fail(notSetUp, cause) }

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// settings checks the names of a tool's settings, and returns each of them once.
func settings(names []string) ([]string, error) {
	var once []string
	for _, name := range names {
		if !settingName.MatchString(name) {
			return nil, fmt.Errorf("the setting %q is not the name of an environment variable; "+
				"use letters, digits and _, a letter first", name)
		}
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once, nil
}

// missing returns the settings that getenv has no value for.
func (e *Entry) missing(getenv func(string) string) []string {
	return slices.DeleteFunc(slices.Clone(e.Settings), func(name string) bool {
		return strings.TrimSpace(getenv(name)) != ""
	})
}

// checkSettings returns the failure of a tool that lacks a setting, or nil.
func (e *Entry) checkSettings() error {
	if missing := e.missing(e.getenv); len(missing) > 0 {
		return NotSetUp(errors.New("not set in the environment: " + strings.Join(missing, ", ")))
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
