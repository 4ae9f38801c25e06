package shop_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ringback/ringback/asynctool"
	"github.com/ringback/ringback/examples/shop"
	"github.com/ringback/ringback/internal/tooltest"
)

const neededList = " I need a CSV text with a header line that names the columns category and amount, " +
	"and a row for each payment."

func report(t testing.TB, csv string) (asynctool.Result, error) {
	arguments, err := json.Marshal(map[string]string{"csv": csv})
	if err != nil {
		t.Fatal(err)
	}
	return tooltest.Call(t, t.Context(), shop.SpendingReport(), string(arguments))
}

func TestSpendingReport(t *testing.T) {
	var twelve, eleven strings.Builder
	var twelveSpoken, elevenSpoken []string
	for i := range 12 {
		fmt.Fprintf(&twelve, "c%02d,%d\n", i, 20-i)
		if i < 11 {
			fmt.Fprintf(&eleven, "c%02d,1\n", i)
			elevenSpoken = append(elevenSpoken, fmt.Sprintf("c%02d 1.00", i))
		}
		if i < 10 {
			twelveSpoken = append(twelveSpoken, fmt.Sprintf("c%02d %d.00", i, 20-i))
		}
	}
	twelveSpoken = append(twelveSpoken, "and 2 further categories together 19.00")
	unreadable := strings.Join([]string{
		"1,23", "12,3456", ",123", "1.2.3", "1e3", "1e1000000000", "0x10", "NaN", "Inf", "--1", "$1€", "1.", ".5",
		"1_000", "1 000", "٣", "", strings.Repeat("9", 16), "0.1234567",
	}, "\na;")
	spoken := func(list, total string) string {
		return "Spending by category: " + list + ". The grand total is " + total + "."
	}
	one := spoken("Food 3.50", "3.50") // most tables have one readable payment
	for name, row := range map[string]struct{ csv, want string }{
		"sorted by amount, then name": {"category,amount\nFood,10\nRent,1200\nBooks,10\nFood,2.5\n",
			spoken("Rent 1200.00; Food 12.50; Books 10.00", "1222.50")},
		"equal amounts by name": {"category,amount\nb,1\na,1\nc,1", spoken("a 1.00; b 1.00; c 1.00", "3.00")},
		"decimal, not binary": {"category,amount\na,0.1\na,0.2\nb,999999999999999.99\nb,0.01",
			spoken("b 1000000000000000.00; a 0.30", "1000000000000000.30")},
		"rounded to the cent": {"category,amount\na,0.005\nb,-0.005\nc,0.0049",
			spoken("a 0.01; c 0.00; b minus 0.01", "0.00")},
		"any order and more columns": {"Date, AMOUNT ,x,Category\n2026-01-01,3.50,,Food\n", one},
		"byte order mark and CRLF":   {"\ufeffcategory,amount\r\nFood,3.50\r\n", one},
		"semicolons":                 {"category;amount\nFood;3.50", one},
		"quoted":                     {"\"category\",\"amount\"\n\"Food\",\"3.50\"", one},
		"empty lines and rows":       {"\n\ncategory,amount\n\nFood,3.50\n,,\n , \n", one},
		"a row that is too long":     {"category,amount\nFood,3.50,x,y,z", one},
		"one category in any case":   {"category,amount\n Food ,1\nFOOD,2.50", one},
		"without a category":         {"category,amount\n,1", spoken("uncategorised 1.00", "1.00")},
		"line break in a category":   {"category,amount\n\"a\n b\",1", spoken("a b 1.00", "1.00")},
		"currency before": {"category,amount\na,$1\na,-$5.00\nb,2",
			spoken("b $2.00; a minus $4.00", "minus $2.00")},
		"currency after":          {"category,amount\na,1.00 €\na,2€", spoken("a €3.00", "€3.00")},
		"signs":                   {"category,amount\na,+5\nb,-7", spoken("a 5.00; b minus 7.00", "minus 2.00")},
		"thousands":               {"category,amount\na,\"1,234,567.89\"", spoken("a 1234567.89", "1234567.89")},
		"one unreadable row":      {"category,amount\nFood,3.50\nRent,twelve", one + oneLeftOut},
		"unreadable amounts":      {"category;amount\nFood;3.50\na;" + unreadable, one + leftOut(19)},
		"rows that are too short": {"x,category,amount\n1,Food,3.50\n1,Rent\nz", one + leftOut(2)},
		"stray quotation mark":    {"category,amount\nFo\"od,1\nFood,3.50\n", one + oneLeftOut},
		"quotation mark over lines": {
			"category,amount\nFood,3.50\n\"Food,1\nFood,2\nFood\",x\"y,3\n", one + leftOut(3)},
		"ten named, the others summed": {
			"category,amount\n" + twelve.String(), spoken(strings.Join(twelveSpoken, "; "), "174.00")},
		"eleven all named": {
			"category,amount\n" + eleven.String(), spoken(strings.Join(elevenSpoken, "; "), "11.00")},
		"a long name is cut": {
			"category,amount\n" + strings.Repeat("é", 70) + ",1", spoken(strings.Repeat("é", 60)+"… 1.00", "1.00")},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := report(t, row.csv)
			want{Text: row.want}.Check(t, result, err)
		})
	}
}

const oneLeftOut = " I couldn't read one row, so I left it out."

func leftOut(rows int) string {
	return fmt.Sprintf(" I couldn't read %d rows, so I left them out.", rows)
}

func TestSpendingReportStatesWhatItNeeds(t *testing.T) {
	const noHeader = "The list's header doesn't name the columns category and amount." + neededList
	for name, row := range map[string]struct{ csv, want string }{
		"empty":         {"", "The list is empty." + neededList},
		"blank":         {"\ufeff \r\n", "The list is empty." + neededList},
		"no header":     {"Food,3.50\n", noHeader},
		"wrong header":  {"category,price\nFood,3.50", noHeader},
		"broken header": {"cat\"egory,amount\nFood,3.50", noHeader},
		"tabs":          {"category\tamount\nFood\t3.50", noHeader},
		"header alone":  {"category,amount\n,,\n", "The list has a header but no rows." + neededList},
		"no readable row": {"category;amount\nFood;3,50",
			"I couldn't read any row of the list. Each row needs a category and an amount like 1,234.56."},
		"mixed currencies": {"category,amount\na,$1\nb,2\nc,€1", "The list has amounts in more than one currency, " +
			"so I can't add them up. I need a list in one currency."},
		"too long": {"category,amount\n" + strings.Repeat("a,1\n", 65536),
			"The list is too long. It can have at most 256 kilobytes."},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := report(t, row.csv)
			want{Spoken: row.want}.Check(t, result, err)
		})
	}
}

// spokenTotals parses a report as a listener does: a name and an amount, then the
// next, then the grand total. All amounts are in cents.
func spokenTotals(t interface{ Fatalf(string, ...any) }, text string) (names []string, totals []int64, grand int64) {
	list, ok := strings.CutPrefix(text, "Spending by category: ")
	list, rest, ok2 := strings.Cut(list, ". The grand total is ")
	if !ok || !ok2 {
		t.Fatalf("not a report: %q", text)
	}
	amount := regexp.MustCompile(`^(minus )?[$€£]?([0-9]+)\.([0-9]{2})$`)
	cents := func(said string) int64 {
		m := amount.FindStringSubmatch(said)
		if m == nil {
			t.Fatalf("not an amount: %q in %q", said, text)
		}
		n, err := strconv.ParseInt(m[2]+m[3], 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", said, err)
		}
		if m[1] != "" {
			return -n
		}
		return n
	}
	for part := range strings.SplitSeq(list, "; ") {
		at := strings.LastIndex(part, " ")
		if before, ok := strings.CutSuffix(part[:at], " minus"); ok {
			at = len(before)
		}
		names = append(names, part[:at])
		totals = append(totals, cents(part[at+1:]))
	}
	grandText, _, _ := strings.Cut(rest, " ")
	if grandText == "minus" {
		grandText = strings.Join(strings.SplitN(rest, " ", 3)[:2], " ")
	}
	return names, totals, cents(strings.TrimSuffix(grandText, "."))
}

// The spoken amounts add up: the totals of the categories are the grand total, and
// both are the sum of the rows. The test adds up whole numbers.
func TestSpendingReportAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		separator := rapid.SampledFrom([]string{",", ";"}).Draw(t, "separator")
		lineEnd := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "line end")
		symbol := rapid.SampledFrom([]string{"", "$", "€", "£"}).Draw(t, "symbol")
		columns := rapid.Permutation([]string{"category", "AMOUNT", "note"}).Draw(t, "columns")
		var csv strings.Builder
		csv.WriteString(rapid.SampledFrom([]string{"", "\ufeff"}).Draw(t, "byte order mark"))
		csv.WriteString(strings.Join(columns, separator) + lineEnd)
		want := map[string]int64{}
		var grand int64
		readable, unreadable := 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "rows") {
			name := rapid.StringMatching(`[a-p]{1,2}`).Draw(t, "category")
			// Thousandths, because a third decimal is rounded.
			thousandths := rapid.Int64Range(-99_999_999_999, 99_999_999_999).Draw(t, "amount")
			amount := formatAmount(t, thousandths, symbol)
			if rapid.IntRange(0, 9).Draw(t, "unreadable") == 0 {
				amount += "x"
				unreadable++
			} else {
				rounded := (max(thousandths, -thousandths) + 5) / 10
				if thousandths < 0 {
					rounded = -rounded
				}
				want[name] += rounded
				grand += rounded
				readable++
			}
			fields := map[string]string{
				"category": name, "AMOUNT": `"` + amount + `"`, "note": `"any, thing; ""it"" is"`,
			}
			csv.WriteString(fields[columns[0]] + separator + fields[columns[1]] + separator + fields[columns[2]] + lineEnd)
		}
		arguments, _ := json.Marshal(map[string]string{"csv": csv.String()})
		set, err := asynctool.NewSet(shop.SpendingReport())
		if err != nil {
			t.Fatal(err)
		}
		result, err := set.Entries()[0].Run(t.Context(), asynctool.Call{}, arguments)
		if readable == 0 {
			if err == nil {
				t.Fatalf("no row is readable, but the text is %q", result.Text)
			}
			return
		}
		if err != nil {
			t.Fatalf("%v for\n%s", err, csv.String())
		}
		names, totals, spokenGrand := spokenTotals(t, result.Text)
		var sum int64
		for i, name := range names {
			sum += totals[i]
			if strings.HasPrefix(name, "and ") {
				if want := fmt.Sprintf("and %d further categories together", len(want)-10); i != 10 || name != want {
					t.Fatalf("%q, want %q", name, want)
				}
				continue
			}
			if totals[i] != want[name] {
				t.Fatalf("%s: %d, want %d", name, totals[i], want[name])
			}
			if i > 0 && (totals[i] > totals[i-1] || totals[i] == totals[i-1] && name < names[i-1]) {
				t.Fatalf("not in order: %q", result.Text)
			}
		}
		if sum != spokenGrand || spokenGrand != grand {
			t.Fatalf("the categories make %d, the grand total is %d, the rows make %d", sum, spokenGrand, grand)
		}
		if left := strings.Contains(result.Text, "I couldn't read"); left != (unreadable > 0) {
			t.Fatalf("%d rows are unreadable, but the text is %q", unreadable, result.Text)
		}
	})
}

// formatAmount formats an amount in one of the usual ways.
func formatAmount(t *rapid.T, thousandths int64, symbol string) string {
	whole := strconv.FormatInt(max(thousandths, -thousandths)/1000, 10)
	if rapid.Bool().Draw(t, "thousands") {
		for i := len(whole) - 3; i > 0; i -= 3 {
			whole = whole[:i] + "," + whole[i:]
		}
	}
	text := fmt.Sprintf("%s.%03d", whole, max(thousandths, -thousandths)%1000)
	for strings.HasSuffix(text, "0") && rapid.Bool().Draw(t, "short") {
		text = strings.TrimSuffix(text, "0")
	}
	text = strings.TrimSuffix(text, ".")
	sign := ""
	switch {
	case thousandths < 0:
		sign = "-"
	case rapid.Bool().Draw(t, "plus"):
		sign = "+"
	}
	switch rapid.IntRange(0, 2).Draw(t, "symbol's place") {
	case 0:
		return sign + symbol + text
	case 1:
		return sign + text + symbol
	default:
		return sign + text
	}
}

func FuzzSpendingReport(f *testing.F) {
	f.Add("category,amount\nFood,10\nRent,\"1,200.00\"\n")
	f.Add("\ufeffamount;category\r\n$3.50;Food\r\n")
	f.Add("category,amount\na,1e1000000000\na,-0\n")
	f.Add("category,amount\n\"a\nb,1\n")
	f.Add("category,amount\n\x00\xff,1\r")
	f.Fuzz(func(t *testing.T, csv string) {
		result, err := report(t, csv)
		if err != nil {
			// No error of a list allows another attempt.
			e, ok := errors.AsType[*asynctool.Error](err)
			if !ok || e.Spoken == "" || e.Retry {
				t.Fatalf("%v (%T)", err, err)
			}
			return
		}
		if len(result.Text) > 8<<10 || strings.ContainsAny(result.Text, "\r\n\t") {
			t.Fatalf("unfit to speak: %q", result.Text)
		}
	})
}
