// Package suppliers contains a tool that asks many services at the same time, and reports each answer as it comes.
// List [Tool] in the tools of a project, or copy the folder.
package suppliers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/httptool"
)

// list is the name of the setting with the suppliers.
const list = "SUPPLIERS"

const (
	// patience is how long the tool waits for answers. A line for each of twenty suppliers takes two minutes.
	patience = 3 * time.Minute

	// reserve is the rest of the timeout, for the result.
	reserve = 30 * time.Second
)

type input struct {
	Article string `json:"article" jsonschema:"the number of the article, for example K-200"`
}

// supplier is one of the suppliers, as in the setting.
type supplier struct {
	Name string `json:"name"`
	URL  string `json:"url"`

	base *url.URL
}

// price is the answer of a supplier.
type price struct {
	Cents int `json:"cents"`
}

// offer is the price of a supplier, or the reason that there is none.
type offer struct {
	supplier string
	cents    int
	err      error
}

// Tool returns a tool that asks all suppliers for the price of an article. It requests
// GET {url}/articles/{article}/price of each, which answers JSON {"cents"}. The suppliers are in the setting
// SUPPLIERS, as JSON [{"name", "url"}]. getenv returns its value.
//
// The caller hears each answer, in the order in which they come, and at last the best price. If some suppliers
// do not answer within three minutes, the result is that of the others. The tool stops if the caller hangs up, or
// no longer wants to know.
func Tool(getenv func(string) string) asynctool.Definition { return tool(getenv, patience) }

func tool(getenv func(string) string, patience time.Duration) asynctool.Definition {
	return asynctool.Tool[input]{
		Name: "supplier_prices",
		Description: "Asks all suppliers for the price of an article, and tells each price as it comes. Needs the " +
			"article's number. Takes one to three minutes.",
		Timeout:      patience + reserve,
		Attempts:     1, // another one would report everything again
		StopWithCall: true,
		Cancellable:  true,
		FailureText:  "I'm sorry, I couldn't ask the suppliers.",
		Settings:     []string{list},
		Getenv:       getenv,
		CheckSettings: func(lookup func(string) (string, bool)) error {
			value, _ := lookup(list)
			if _, err := parse(value); err != nil {
				return fmt.Errorf("it %w", err)
			}
			return nil
		},
		Run: func(ctx context.Context, call asynctool.Call, in input) (asynctool.Result, error) {
			suppliers, err := parse(getenv(list))
			if err != nil {
				return asynctool.Result{}, asynctool.NotSetUp(err)
			}
			article, ok := asynctool.Identifier(in.Article)
			if !ok {
				return asynctool.Result{}, asynctool.Fail("That doesn't look like the number of an article. Please check it.", nil)
			}

			asking, stop := context.WithTimeout(ctx, patience)
			defer stop()
			answers := make(chan offer, len(suppliers)) // has room for those that come too late
			for _, s := range suppliers {
				go func() { answers <- s.ask(asking, article) }()
			}
			var offers []offer
			for n := 0; n < len(suppliers) && asking.Err() == nil; n++ {
				select {
				case o := <-answers:
					if o.err == nil {
						offers = append(offers, o)
						// If the line is not heard, the result may still be.
						_ = call.Report(asking, o.String())
					}
				case <-asking.Done():
				}
			}
			if err := ctx.Err(); err != nil { // the caller has hung up, or cancelled
				return asynctool.Result{}, err
			}
			for len(answers) > 0 { // there was no time to report them
				if o := <-answers; o.err == nil {
					offers = append(offers, o)
				}
			}
			return summary(article, offers, len(suppliers))
		},
	}
}

// ask asks a supplier for its price.
func (s supplier) ask(ctx context.Context, article string) offer {
	r, err := httptool.NewRequest(ctx, http.MethodGet, s.base.JoinPath("articles", article, "price"), nil)
	if err != nil {
		return offer{err: err}
	}
	p, err := httptool.JSON[price](r)
	if err == nil && p.Cents <= 0 {
		err = errors.New("the answer has no price")
	}
	return offer{supplier: s.Name, cents: p.Cents, err: err}
}

// String returns the line that the caller hears.
func (o offer) String() string {
	return fmt.Sprintf("%s wants %d.%02d euros.", o.supplier, o.cents/100, o.cents%100)
}

// summary returns the result for the offers that came in time.
func summary(article string, offers []offer, asked int) (asynctool.Result, error) {
	if len(offers) == 0 {
		return asynctool.Result{}, asynctool.Fail("None of the suppliers has told me a price.", nil)
	}
	best := slices.MinFunc(offers, func(a, b offer) int { return a.cents - b.cents })
	text := fmt.Sprintf("%d of %d suppliers have a price for %s. The best one: %s", len(offers), asked, article, best)
	return asynctool.Text(text), nil
}

// parse parses the setting. Its error completes a sentence, and does not quote the setting.
func parse(setting string) ([]supplier, error) {
	var suppliers []supplier
	if err := json.Unmarshal([]byte(setting), &suppliers); err != nil || len(suppliers) == 0 {
		return nil, errors.New(`is not JSON like [{"name": "Ada's Parts", "url": "https://ada.example.com"}]`)
	}
	for i := range suppliers {
		s := &suppliers[i]
		if strings.TrimSpace(s.Name) == "" {
			return nil, errors.New("has a supplier without a name")
		}
		base, err := httptool.Address(s.URL)
		if err != nil {
			return nil, fmt.Errorf("has a supplier whose url %w", err)
		}
		s.base = base
	}
	return suppliers, nil
}
