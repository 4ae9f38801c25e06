package queue_test

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/internal/queue"
)

func TestCheck(t *testing.T) {
	for name, row := range map[string]struct {
		body string
		ok   bool
	}{
		"empty":                  {"", false},
		"one byte":               {"x", true},
		"largest":                {strings.Repeat("x", queue.MaxMessage), true},
		"one byte too many":      {strings.Repeat("x", queue.MaxMessage+1), false},
		"bytes count, not runes": {strings.Repeat("é", queue.MaxMessage/2+1), false},
		"white space":            {"\t\r\n ", true},
		"delete character":       {"\x7f\u0080", true},
		"null":                   {"a\x00b", false},
		"escape":                 {"a\x1bb", false},
		"not UTF-8":              {"a\xffb", false},
		"half a surrogate":       {"a\xed\xa0\x80b", false},
		"last character":         {"\uFFFD\U00010000\U0010FFFF", true},
		"U+FFFE":                 {"a\uFFFEb", false},
		"U+FFFF":                 {"a\uFFFFb", false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := (queue.Message{Body: row.body}).Check(); (err == nil) != row.ok {
				t.Errorf("error %v, want an error: %t", err, !row.ok)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	for _, row := range []struct {
		delay   time.Duration
		seconds int32
		ok      bool
	}{
		{delay: 0, seconds: 0, ok: true},
		{delay: 1, seconds: 1, ok: true},
		{delay: time.Second, seconds: 1, ok: true},
		{delay: time.Second + 1, seconds: 2, ok: true},
		{delay: queue.MaxDelay - 1, seconds: 900, ok: true},
		{delay: queue.MaxDelay, seconds: 900, ok: true},
		{delay: queue.MaxDelay + 1},
		{delay: math.MaxInt64},
		{delay: -1},
		{delay: math.MinInt64},
	} {
		m := queue.Message{Body: "x", Delay: row.delay}
		if err := m.Check(); (err == nil) != row.ok {
			t.Errorf("%s: error %v, want an error: %t", row.delay, err, !row.ok)
		}
		if row.ok && m.DelaySeconds() != row.seconds {
			t.Errorf("%s are %d seconds, want %d", row.delay, m.DelaySeconds(), row.seconds)
		}
	}
}

// groupID matches what SQS accepts as a MessageGroupId (Amazon SQS API reference,
// SendMessage).
var groupID = regexp.MustCompile("^[a-zA-Z0-9!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]{1,128}$")

func FuzzGroup(f *testing.F) {
	for _, s := range []string{
		"", "019a-call", "a b", "ä", "\x7f", "\xff", strings.Repeat("x", 128), strings.Repeat("x", 129), "!~",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		group := queue.Group(s)
		switch {
		case s == "":
			if group != "" {
				t.Errorf("Group of no call = %q", group)
			}
		case !groupID.MatchString(group):
			t.Errorf("Group(%q) = %q, which SQS refuses", s, group)
		case groupID.MatchString(s) && group != s:
			t.Errorf("Group(%q) = %q, though SQS accepts it as it is", s, group)
		case queue.Group(s+"x") == group:
			t.Errorf("%q and %q are the same group", s, s+"x")
		}
	})
}
