package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

const (
	// batchSize is how many messages Lambda passes to the process and callback functions at most.
	batchSize = 10
	// batchShare is the part of a CPU that these functions have on Lambda: they have 256 MB.
	batchShare = 0.145
	// batchBlock is how many calls with one message precede as many with ten, or follow them.
	batchBlock = 5
)

// batchOf returns a function that makes events with the messages of n others. Each of them is of a call of its own.
func batchOf(n int, event func() ([]byte, error)) func() ([]byte, error) {
	return func() ([]byte, error) {
		var all events.SQSEvent
		for range n {
			var one events.SQSEvent
			text, err := event()
			if err == nil {
				err = json.Unmarshal(text, &one)
			}
			if err != nil {
				return nil, err
			}
			all.Records = append(all.Records, one.Records...)
		}
		return json.Marshal(all)
	}
}

// batches measures events with ten messages beside those with one, prints the table in Markdown, and adds the ratios.
func (b *bench) batches(pairs int, ratios map[string]ratio) error {
	limited := fmt.Sprintf("%.3f CPU", batchShare)
	slow := fmt.Sprintf("%s, tools of %s, posts of %s", limited, slowOrder, slowPost)
	fmt.Printf("\n| ten messages of | %s | ÷ one | %s | ÷ one | %s | ÷ one | %s | ÷ one |\n|---|%s\n",
		cpu, later, limited, slow, strings.Repeat("--:|", 8))
	for _, s := range []subject{{function: "process", event: b.jobs}, {function: "callback", event: b.outcomes}} {
		names := []string{s.function}
		if b.beside != "" {
			names = append(names, s.function+before)
		}
		for _, name := range names {
			row := "| " + name
			for _, c := range []struct {
				limited, slow bool
				columns       [][2]string // what, and its name
			}{
				{false, false, [][2]string{{cpu, cpu}, {later, later}}},
				{true, false, [][2]string{{later, limited}}},
				{true, true, [][2]string{{later, slow}}},
			} {
				s.slow = c.slow
				one, ten, err := b.batch(s, name, c.limited, pairs)
				if err != nil {
					return fmt.Errorf("%s, ten messages: %w", name, err)
				}
				for _, column := range c.columns {
					r := compared(ten[column[0]], one[column[0]])
					row += fmt.Sprintf(" | %s | %s", amount(column[0], ten[column[0]]), r)
					if name == s.function {
						ratios[fmt.Sprintf("%s, ten messages: %s ÷ one", name, column[1])] = r
					}
				}
			}
			fmt.Println(row + " |")
		}
	}
	return nil
}

// batch measures calls of a function with one message, and with ten. Without the rights for a limit, it measures
// nothing.
func (b *bench) batch(s subject, name string, limited bool, pairs int) (one, ten samples, err error) {
	defer b.stopHelpers()
	one, ten = samples{}, samples{}
	var share *quota
	if limited {
		if share, err = newQuota(batchShare); err != nil {
			return one, ten, nil
		}
		defer share.remove()
	}
	many := s
	many.messages, many.event = batchSize, batchOf(batchSize, s.event)
	var running [2]*function
	for i := range running {
		if running[i], _, err = start(b.path(name), b.environment()); err != nil {
			return nil, nil, err
		}
		defer running[i].stop()
		if share != nil {
			if err := share.add(running[i].command.Process); err != nil {
				return nil, nil, err
			}
		}
	}
	measure := func(one, ten samples) func(string) error {
		return func(which string) error {
			if which == "one" {
				return b.block(s, batchBlock, name, running[0], one)
			}
			return b.block(many, batchBlock, name, running[1], ten)
		}
	}
	turns := []string{"one", "ten"}
	if err = inTurn(turns, warmUp, measure(samples{}, samples{})); err == nil {
		err = inTurn(turns, pairs, measure(one, ten))
	}
	return one, ten, err
}
