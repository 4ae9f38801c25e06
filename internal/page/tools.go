package page

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/operator"
)

// statistics is what the jobs of a tool in the loaded period show. Replays are not among them. A job that was cancelled
// counts in Jobs only.
type statistics struct {
	Jobs, Failed, Lost int
	Succeeded          string // percentage of the jobs with a result whose result is no failure; empty if there are none
	Delivered          string // percentage of the settled results that were delivered; empty if there are none
	P50, P95           string // from the tool call to its end
}

// loaded is the period of the statistics.
const loaded = 24 * time.Hour

// statisticsOf returns the statistics of each tool.
func statisticsOf(jobs []operator.Job) map[string]statistics {
	all := make(map[string]statistics)
	took, results := make(map[string][]time.Duration), make(map[string]int)
	for _, j := range jobs {
		if job.IsReplay(j.ID) {
			continue
		}
		s := all[j.Tool]
		s.Jobs++
		if j.CancelledBy == "" && j.State != job.StateCancelled {
			if j.Status != "" {
				results[j.Tool]++
			}
			if j.CountsAsFailed() {
				s.Failed++
			}
			if j.State == job.StateUndelivered {
				s.Lost++
			}
			if settled(j.State) {
				took[j.Tool] = append(took[j.Tool], j.Updated.Sub(j.Created))
			}
		}
		all[j.Tool] = s
	}
	for tool, s := range all {
		s.Succeeded = percentage(results[tool]-s.Failed, results[tool])
		if times := took[tool]; len(times) > 0 {
			slices.Sort(times)
			s.Delivered = percentage(len(times)-s.Lost, len(times))
			s.P50, s.P95 = span(percentile(times, 50)), span(percentile(times, 95))
		}
		all[tool] = s
	}
	return all
}

// percentage returns which part of all n is, rounded down, so that 100 % has no exception.
func percentage(n, all int) string {
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("%d %%", 100*n/all)
}

// percentile returns the least of the sorted durations that p percent of them do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// toolsModel is the list of tools.
type toolsModel struct {
	Tools    []toolModel
	Searched string
}

// toolModel is a tool in the list, or alone.
type toolModel struct {
	Tool     *asynctool.Entry
	Stats    statistics
	Missing  string
	Policies []policyModel
	Fields   []field
	Command  string

	Startable bool // the page can call it
	Static    bool // it has arguments that Vapi fills in
}

type policyModel struct{ Name, Text string }

// tools serves the list of tools.
func (p *Page) tools(w http.ResponseWriter, r *http.Request) {
	found, err := p.cfg.Jobs.Search(r.Context(), operator.Filter{Since: p.cfg.Now().Add(-loaded)})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	stats := statisticsOf(found.Jobs)
	m := toolsModel{Searched: searched(found, p.cfg.Now())}
	for _, tool := range p.callable() {
		m.Tools = append(m.Tools, toolModel{
			Tool: tool, Stats: stats[tool.Name], Missing: p.missing(tool), Policies: policies(tool),
		})
	}
	p.show(w, r, http.StatusOK, view{Name: "tools", Title: "Tools", Tab: "tools", Model: m})
}

// missing names the settings that a tool lacks.
func (p *Page) missing(tool *asynctool.Entry) string {
	if p.cfg.Local == nil {
		return ""
	}
	return strings.Join(p.cfg.Local.Missing[tool.Name], " and ")
}

// tool serves a tool, with a form that calls it.
func (p *Page) tool(w http.ResponseWriter, r *http.Request) {
	tool, ok := p.lookup(r)
	if !ok {
		p.refuse(w, r, http.StatusNotFound, "There is no such tool.")
		return
	}
	p.showTool(w, r, http.StatusOK, p.toolModel(tool, nil), "")
}

func (p *Page) lookup(r *http.Request) (*asynctool.Entry, bool) {
	tool, ok := p.cfg.Tools.Lookup(r.PathValue("tool"))
	return tool, ok && !tool.Status
}

func (p *Page) toolModel(tool *asynctool.Entry, values url.Values) toolModel {
	m := toolModel{
		Tool: tool, Missing: p.missing(tool), Policies: policies(tool), Fields: fields(tool, values),
		Startable: p.cfg.Local != nil && p.cfg.Write,
		Command:   p.callCommand(tool, nil), Static: len(tool.Static) > 0,
	}
	return m
}

func (p *Page) showTool(w http.ResponseWriter, r *http.Request, status int, m toolModel, problem string) {
	p.show(w, r, status, view{
		Name: "tool", Title: m.Tool.Name, Tab: "tools", Still: true, Model: m, Problem: problem,
	})
}

// start calls a tool in the local run.
func (p *Page) start(w http.ResponseWriter, r *http.Request) {
	tool, ok := p.lookup(r)
	if !ok || p.cfg.Local == nil {
		p.refuse(w, r, http.StatusNotFound, "There is no such tool here.")
		return
	}
	if err := r.ParseForm(); err != nil {
		p.refuse(w, r, http.StatusBadRequest, "The form cannot be read.")
		return
	}
	arguments, err := decode(fields(tool, r.PostForm), r.PostForm)
	var callID string
	if err == nil {
		callID, err = p.cfg.Local.Start(r.Context(), tool.Name, arguments)
	}
	if err != nil {
		p.showTool(w, r, http.StatusBadRequest, p.toolModel(tool, r.PostForm), masked(err.Error()))
		return
	}
	http.Redirect(w, r, "/ui/calls/"+job.CallHash(callID)+"?new=true", http.StatusSeeOther)
}

// field is an input of the form of a tool.
type field struct {
	Name, Label, Help string
	Kind              fieldKind
	Step              template.HTMLAttr
	Value             string
	Choices           []string // JSON
	Required          bool
}

type fieldKind string

const (
	fieldText    fieldKind = "text"
	fieldDate    fieldKind = "date"
	fieldNumber  fieldKind = "number"
	fieldInteger fieldKind = "integer"
	fieldBoolean fieldKind = "boolean"
	fieldChoice  fieldKind = "choice"
	fieldJSON    fieldKind = "json"
)

// fieldPrefix distinguishes arguments from the other inputs.
const fieldPrefix = "argument."

// propertyNames returns the names of a schema's properties, in their order.
func propertyNames(s *jsonschema.Schema) []string {
	names := slices.Clone(s.PropertyOrder)
	var others []string
	for name := range s.Properties {
		if !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return append(slices.DeleteFunc(names, func(name string) bool { return s.Properties[name] == nil }), others...)
}

// fields returns the inputs for the arguments of a tool, with values that were entered.
func fields(tool *asynctool.Entry, values url.Values) []field {
	schema := tool.ModelSchema()
	var all []field
	for _, name := range propertyNames(schema) {
		s := schema.Properties[name]
		f := field{
			Name: fieldPrefix + name, Label: name, Help: s.Description, Required: slices.Contains(schema.Required, name),
		}
		switch kind := typeOf(s); {
		case len(s.Enum) > 0:
			f.Kind = fieldChoice
			for _, value := range s.Enum {
				f.Choices = append(f.Choices, encoded(value))
			}
		case kind == "string" && s.Format == "date":
			f.Kind = fieldDate
		case kind == "string":
			f.Kind = fieldText
		case kind == "integer":
			f.Kind = fieldInteger
		case kind == "number":
			f.Kind = fieldNumber
		case kind == "boolean":
			f.Kind = fieldBoolean
			f.Choices = []string{"true", "false"}
		default:
			f.Kind = fieldJSON
		}
		switch {
		case values != nil:
			f.Value = values.Get(f.Name)
		case s.Default != nil:
			f.Value = f.text(s.Default)
		case len(s.Examples) > 0:
			f.Value = f.text([]byte(encoded(s.Examples[0])))
		}
		all = append(all, f)
	}
	return all
}

// typeOf returns the type of a value that is not null.
func typeOf(s *jsonschema.Schema) string {
	if s.Type != "" {
		return s.Type
	}
	types := slices.DeleteFunc(slices.Clone(s.Types), func(kind string) bool { return kind == "null" })
	if len(types) == 1 {
		return types[0]
	}
	return ""
}

// text returns a JSON value as the field shows it.
func (f field) text(raw json.RawMessage) string {
	var text string
	if (f.Kind == fieldText || f.Kind == fieldDate) && json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

func encoded(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// decode returns the arguments that were entered. An empty input that is not required is none.
func decode(all []field, values url.Values) (map[string]any, error) {
	arguments := make(map[string]any)
	for _, f := range all {
		text := values.Get(f.Name)
		if f.Kind != fieldText {
			text = strings.TrimSpace(text)
		}
		if text == "" && (!f.Required || f.Kind != fieldText) {
			if f.Required {
				return nil, fmt.Errorf("%s is required", f.Label)
			}
			continue
		}
		switch f.Kind {
		case fieldText, fieldDate:
			arguments[f.Label] = strings.ReplaceAll(text, "\r\n", "\n") // as browsers send lines
			continue
		case fieldNumber, fieldInteger:
			if _, err := strconv.ParseFloat(text, 64); err != nil {
				return nil, fmt.Errorf("%s must be a number", f.Label)
			}
		case fieldChoice, fieldBoolean:
			if !slices.Contains(f.Choices, text) {
				return nil, fmt.Errorf("%s must be one of the choices", f.Label)
			}
		}
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, errors.New(f.Label + " must be JSON")
		}
		arguments[f.Label] = value
	}
	return arguments, nil
}

// policies are what a tool asks for, in words.
func policies(e *asynctool.Entry) []policyModel {
	var all []policyModel
	add := func(name, text string) {
		if text != "" {
			all = append(all, policyModel{name, text})
		}
	}
	add("delivery", map[asynctool.Delivery]string{
		asynctool.Respond: "the assistant responds", asynctool.Silent: "the assistant stays silent",
		asynctool.Say: "spoken word for word",
	}[e.Delivery])
	timeout := span(e.Timeout)
	if e.Attempts > 1 {
		timeout += fmt.Sprintf(", %d attempts", e.Attempts)
	}
	add("timeout", timeout)
	if e.Deadline > 0 {
		add("deadline", span(e.Deadline))
	} else {
		add("deadline", "the end of the call")
	}
	add("after the call", afterCallWord(string(e.AfterCall)))
	if e.Hold != "" {
		add("hold message", "after "+span(e.HoldAfter)+": "+e.Hold)
	}
	if e.Repeat != asynctool.Allow {
		add("repeated question", string(e.Repeat))
	}
	if e.Quick > 0 {
		add("quick answer", "within "+span(e.Quick))
	}
	if e.StopWithCall {
		add("the call ends", "the tool stops")
	}
	if e.Cancellable {
		add("cancellable", "the assistant can cancel it")
	}
	if len(e.Encrypted) > 0 {
		add("encrypted", strings.Join(e.Encrypted, ", "))
	}
	if len(e.Static) > 0 {
		names := make([]string, 0, len(e.Static))
		for name := range e.Static {
			names = append(names, name)
		}
		slices.Sort(names)
		add("filled in by Vapi", strings.Join(names, ", "))
	}
	return all
}
