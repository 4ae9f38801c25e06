package shop

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/shopspring/decimal"

	"github.com/ringback/ringback/asynctool"
)

type spendingReportInput struct {
	CSV string `json:"csv"`
}

// csvDescription tells the model what spendingReportInput.CSV is.
const csvDescription = "the spending as CSV text: a header line with at least the columns category and amount, " +
	"then a row for each payment"

const (
	// maxCSV bounds the text, in bytes.
	maxCSV = 256 << 10
	// maxSpokenCategories is how many categories are named. A caller cannot
	// follow more of them.
	maxSpokenCategories = 10
	// maxSpokenCategory bounds a category's name, in characters.
	maxSpokenCategory = 60
)

// SpendingReport returns a tool that adds up a list of payments by category.
func SpendingReport() asynctool.Definition {
	return asynctool.Tool[spendingReportInput]{
		Name: "spending_report",
		Description: "Adds up a list of payments: the total of each category and of all of them. " +
			"Needs the list as CSV text.",
		Refine: func(s *jsonschema.Schema) {
			s.Properties["csv"].Description = csvDescription
		},
		Attempts: 2, // it only computes
		Run: func(_ context.Context, _ asynctool.Call, in spendingReportInput) (asynctool.Result, error) {
			report, err := readSpending(in.CSV, maxCSV)
			if err != nil {
				return asynctool.Result{}, err
			}
			return asynctool.Text(report.spoken()), nil
		},
	}
}

// spending is the total of the payments in a CSV text.
type spending struct {
	categories []category // the largest first
	total      decimal.Decimal
	currency   string // the symbol of the amounts, if they have one
	unreadable int    // lines that are not a payment
}

type category struct {
	name  string
	total decimal.Decimal
}

// readSpending adds up the rows of a CSV text of at most so many bytes. All its
// errors are final, and state what is needed.
func readSpending(text string, most int) (*spending, error) {
	const needed = " I need a CSV text with a header line that names the columns category and amount, " +
		"and a row for each payment."
	if len(text) > most {
		return nil, asynctool.Fail(fmt.Sprintf("The list is too long. It can have at most %d kilobytes.", most>>10), nil)
	}
	text = strings.TrimPrefix(text, "\ufeff")
	if strings.TrimSpace(text) == "" {
		return nil, asynctool.Fail("The list is empty."+needed, nil)
	}
	rows, nameColumn, amountColumn := openCSV(text)
	if rows == nil {
		return nil, asynctool.Fail("The list's header doesn't name the columns category and amount."+needed, nil)
	}
	s := &spending{}
	totals := map[string]*category{} // by lower-case name: Food and food are one
	payments := 0
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if broken, ok := errors.AsType[*csv.ParseError](err); ok {
			// A stray quotation mark can make several lines one record.
			s.unreadable += broken.Line - broken.StartLine + 1
			continue
		}
		if err != nil {
			return nil, asynctool.Fail("I couldn't read the list."+needed, err)
		}
		if strings.TrimSpace(strings.Join(row, "")) == "" {
			continue // spreadsheets write such rows at the end of a file
		}
		if len(row) <= max(nameColumn, amountColumn) {
			s.unreadable++
			continue
		}
		amount, currency, ok := parseAmount(row[amountColumn])
		if !ok {
			s.unreadable++
			continue
		}
		if s.currency = cmp.Or(s.currency, currency); currency != "" && currency != s.currency {
			return nil, asynctool.Fail("The list has amounts in more than one currency, so I can't add them up. "+
				"I need a list in one currency.", nil)
		}
		name := cmp.Or(oneLine(row[nameColumn]), "uncategorised")
		c := totals[strings.ToLower(name)]
		if c == nil {
			c = &category{name: name}
			totals[strings.ToLower(name)] = c
		}
		c.total = c.total.Add(amount)
		s.total = s.total.Add(amount)
		payments++
	}
	if payments == 0 {
		if s.unreadable > 0 {
			return nil, asynctool.Fail("I couldn't read any row of the list. "+
				"Each row needs a category and an amount like 1,234.56.", nil)
		}
		return nil, asynctool.Fail("The list has a header but no rows."+needed, nil)
	}
	for _, c := range totals {
		s.categories = append(s.categories, *c)
	}
	slices.SortFunc(s.categories, func(a, b category) int {
		return cmp.Or(b.total.Cmp(a.total), cmp.Compare(a.name, b.name))
	})
	return s, nil
}

// openCSV reads the header and finds the two columns, with each separator in turn.
// It returns a nil reader if the header does not name the columns.
func openCSV(text string) (rows *csv.Reader, nameColumn, amountColumn int) {
	column := func(header []string, name string) int {
		return slices.IndexFunc(header, func(h string) bool {
			return strings.EqualFold(strings.TrimSpace(h), name)
		})
	}
	for _, separator := range ",;" {
		rows := csv.NewReader(strings.NewReader(text))
		rows.Comma = separator
		rows.FieldsPerRecord = -1 // a row that is too long still has the columns
		rows.ReuseRecord = true
		header, err := rows.Read()
		if err != nil {
			continue
		}
		nameColumn, amountColumn := column(header, "category"), column(header, "amount")
		if nameColumn >= 0 && amountColumn >= 0 {
			return rows, nameColumn, amountColumn
		}
	}
	return nil, 0, 0
}

// amountPattern matches 1234.5, -1,234.56, $12 and 12.00 €. It bounds the digits,
// and allows no exponent: 1e1000000000 is short, but takes a gigabyte to add up.
var amountPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(
		`^([+-]?)([$€£]?) ?([0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4})(\.[0-9]{1,6})?(?: ?([$€£]))?$`)
})

// parseAmount parses an amount and rounds it to the cent, so that the spoken totals
// add up. ok reports whether it is an amount.
func parseAmount(text string) (amount decimal.Decimal, currency string, ok bool) {
	m := amountPattern().FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || (m[2] != "" && m[5] != "") {
		return decimal.Decimal{}, "", false
	}
	amount, err := decimal.NewFromString(m[1] + strings.ReplaceAll(m[3], ",", "") + m[4])
	if err != nil {
		return decimal.Decimal{}, "", false
	}
	return amount.Round(2), m[2] + m[5], true
}

func (s *spending) spoken() string {
	named := s.categories
	// To name a single remaining category is as short as "one further category".
	if len(named) > maxSpokenCategories+1 {
		named = named[:maxSpokenCategories]
	}
	var parts []string
	for _, c := range named {
		name := []rune(c.name)
		if len(name) > maxSpokenCategory {
			name = append(name[:maxSpokenCategory], '…')
		}
		parts = append(parts, string(name)+" "+s.money(c.total))
	}
	if further := s.categories[len(named):]; len(further) > 0 {
		var rest decimal.Decimal
		for _, c := range further {
			rest = rest.Add(c.total)
		}
		parts = append(parts, fmt.Sprintf("and %d further categories together %s", len(further), s.money(rest)))
	}
	text := "Spending by category: " + strings.Join(parts, "; ") + ". The grand total is " + s.money(s.total) + "."
	switch s.unreadable {
	case 0:
	case 1:
		text += " I couldn't read one row, so I left it out."
	default:
		text += fmt.Sprintf(" I couldn't read %d rows, so I left them out.", s.unreadable)
	}
	return text
}

func (s *spending) money(amount decimal.Decimal) string {
	if amount.IsNegative() {
		return "minus " + s.currency + amount.Neg().StringFixed(2)
	}
	return s.currency + amount.StringFixed(2)
}
