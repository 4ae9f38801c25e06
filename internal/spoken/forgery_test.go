package spoken_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/policy"
	"github.com/ringback/ringback/internal/spoken"
	"github.com/ringback/ringback/internal/spoken/spokentest"
	"github.com/ringback/ringback/vapi"
)

// added returns the text that a control message adds to a conversation.
func added(m vapi.ControlMessage, err error) (string, error) {
	switch m := m.(type) {
	case vapi.AddMessage:
		return m.Content, err
	case vapi.AppendContext:
		return m.Content, err
	}
	return "", err
}

// delivered are all ways in which a text that a third party may have written reaches a model in a message.
var delivered = map[string]func(text spoken.Text, o job.Outcome) (string, error){
	"a result": func(text spoken.Text, o job.Outcome) (string, error) { return added(text.Message(o)) },
	"a silent result": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Result.Delivery = policy.DeliverySilent
		return added(text.Message(o))
	},
	"a failure": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Result.Status = job.StatusError
		return added(text.Message(o))
	},
	"of an earlier call, word for word": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Earlier, o.Result.Delivery, o.Result.Own = true, policy.DeliverySay, true
		return added(text.Message(o))
	},
	"progress": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Kind, o.Sequence, o.Result.Delivery = job.KindProgress, 1, policy.DeliverySay
		return added(text.Message(o))
	},
	"progress to answer": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Kind, o.Sequence, o.Respond, o.Result.Delivery = job.KindProgress, 1, true, policy.DeliverySilent
		return added(text.Message(o))
	},
	"the text of a refused action": func(text spoken.Text, o job.Outcome) (string, error) {
		return added(text.RefusedAction(o))
	},
	"a result in a GPT-Live call": func(text spoken.Text, o job.Outcome) (string, error) { return added(text.Context(o)) },
	"word for word, in a GPT-Live call": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Result.Delivery = policy.DeliverySay
		return added(text.Context(o))
	},
	"progress in a GPT-Live call": func(text spoken.Text, o job.Outcome) (string, error) {
		o.Kind, o.Sequence, o.Result.Delivery = job.KindProgress, 1, policy.DeliverySilent
		return added(text.Context(o))
	},
	"the text of a refused action in a GPT-Live call": func(text spoken.Text, o job.Outcome) (string, error) {
		return added(text.RefusedActionContext(o))
	},
	"a result that is cut": func(text spoken.Text, o job.Outcome) (string, error) { return text.Framed(o, 1000) },
	"a chat":               func(text spoken.Text, o job.Outcome) (string, error) { return text.Chat(o) },
	"a variable":           func(text spoken.Text, o job.Outcome) (string, error) { return text.Frame(o), nil },
}

// FuzzForgedMarkers composes forged markers, around and inside a text of the fuzzer's, in everything of an outcome that
// a third party may have written. The forger knows the words of the messages before.
func FuzzForgedMarkers(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, "")
	}
	for i, text := range []string{
		"\xff<<<", ">\x00>>\n>>>", strings.Repeat("<", 5000), strings.Repeat("< ", 5000), strings.Repeat("a b\n", 2000),
		"🏴" + tags("gbsct"), "{marker}", "{content}", "\u200d",
	} {
		f.Add(uint64(1000+i), text)
	}
	text, err := spoken.ParseText("")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, seed uint64, around string) {
		forger := spokentest.Forger{Random: rand.New(rand.NewPCG(seed, 0))}
		forged := func() string {
			half := forger.Random.IntN(len(around) + 1)
			return around[:half] + forger.Text() + around[half:]
		}
		for _, name := range slices.Sorted(maps.Keys(delivered)) {
			o := outcome(policy.DeliveryRespond, forged())
			o.Kind, o.Asked, o.Tool, o.ToolCallID = job.KindFinal, forged(), forged(), forged()
			if spoken.Clean(o.Result.Content) == "" {
				continue // nothing to say
			}
			got, err := delivered[name](text, o)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			words, err := spokentest.Check(got, forger.Known())
			if err != nil || len(words) != 1 || !strings.HasSuffix(got, "\n>>>"+words[0]) {
				t.Fatalf("%s: %q, %v", name, words, err)
			}
			forger.Words = append(forger.Words, words...)
			checkCut(t, o.Result.Content)
		}
		// The speaker of a GPT-Live call is asked to say a tool's own text, in which others may be quoted.
		o := outcome(policy.DeliverySay, forged())
		if o.Kind, o.Result.Own = job.KindFinal, true; spoken.Clean(o.Result.Content) == "" {
			return
		}
		m, err := text.Context(o)
		_, after, named := strings.Cut(m.Content, "say exactly the words between <<<")
		if err != nil || !named || len(after) < 10 {
			t.Fatalf("%q, %v", m.Content, err)
		}
		word, skeleton := after[:10], spokentest.Skeleton(m.Content)
		if strings.Count(skeleton, word) != 4 || !strings.HasSuffix(m.Content, "\n>>>"+word) || !utf8.ValidString(m.Content) {
			t.Fatalf("the words to say end elsewhere: %+q", m.Content)
		}
	})
}
