// Command check-style fails on words that this repository does not use, and on long
// lines of Markdown. It reads the comments, log messages, errors and struct tags of
// Go files, and the prose of Markdown files.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine is the longest line of Markdown, in characters. golangci-lint checks Go.
const maxLine = 120

// words lists what to avoid, as regular expressions without regard to case, and what
// to write instead. A space also matches a line break. A match of the group in
// parentheses is allowed.
var words = []struct {
	avoid, write string
	inMarkdown   bool
}{
	// Go's documentation English.
	{`gives( up)?`, `"returns"`, false},
	{`(?:says?|tells?) whether`, `"reports whether"`, true},
	{`(?:some|no|any|every)body|whoever|outsiders?`,
		`who it is: "a caller", "an operator", "a client", "an external system"`, true},
	{`becomes? of`, `"the result", or name it`, true},
	{`(?:comes|came) to`, `"results in", or name the result`, true},
	{`leaves? away|left away`, `"drops"`, true},
	{`sees? to it`, `the action itself, as in "schedules the wake-up"`, true},
	{`failed to`, `what was attempted, as in "cannot read the table"`, false},

	// One word for one thing.
	{`(?:is|are|was|were|be|been|being) told|told (?:in|by)`, `"delivered", or "spoken" for the voice`, true},
	{`tells? (?:an? |the )?(?:results?|outcomes?)`, `"delivers"`, true},
	{`errands?`, `"execution"`, true},
	{`holders?`, `"owner" (of a lease)`, false},
	{`held lines?`, `"hold message"`, true},
	{`asleep`, `"suspended"`, true},
	{`arrang(?:es?|ed|ing)`, `"schedule"`, true},
	{`kept (?:results?|outcomes?|jobs?)`, `"parked result" or "stored job"`, true},
	{`callingback`, `"outbound call"`, true},
	{`announce(?:s|d|ments?)|announcing`, `"publish" and "undelivered event"`, false},
}

var expressions = func() []*regexp.Regexp {
	all := make([]*regexp.Regexp, len(words))
	for i, w := range words {
		all[i] = regexp.MustCompile(`(?i)\b(?:` + strings.ReplaceAll(w.avoid, " ", `\s+`) + `)\b`)
	}
	return all
}()

// problem is a line that breaks a rule.
type problem struct {
	line int
	text string
}

func main() {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go", "*.md").Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "check-style: cannot list the files:", err)
		os.Exit(1)
	}
	found := 0
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		source, err := os.ReadFile(name)
		if os.IsNotExist(err) { // deleted, and not yet committed
			continue
		}
		var problems []problem
		if err == nil && strings.HasSuffix(name, ".go") {
			problems, err = checkGo(name, source)
		} else if err == nil && name != "docs/licences.md" { // generated
			problems = checkMarkdown(string(source))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "check-style:", err)
			os.Exit(1)
		}
		for _, p := range problems {
			fmt.Printf("%s:%d: %s\n", name, p.line, p.text)
		}
		found += len(problems)
	}
	if found > 0 {
		fmt.Fprintf(os.Stderr, "check-style: %d problems\n", found)
		os.Exit(1)
	}
}

// checkWords returns what a text that starts at a line has to avoid.
func checkWords(text string, line int, markdown bool) []problem {
	var problems []problem
	for i, w := range words {
		if markdown && !w.inMarkdown {
			continue
		}
		for _, at := range expressions[i].FindAllStringSubmatchIndex(text, -1) {
			if len(at) > 2 && at[2] >= 0 {
				continue
			}
			match := strings.Join(strings.Fields(text[at[0]:at[1]]), " ")
			problems = append(problems, problem{
				line + strings.Count(text[:at[0]], "\n"), fmt.Sprintf("instead of %q, write %s", match, w.write),
			})
		}
	}
	return problems
}

// jsonName matches the name of a JSON member, which cannot change with the words.
var jsonName = regexp.MustCompile(`json:"[^"]*"`)

// checkGo checks all comments. In files that are no tests it also checks struct tags,
// which hold help texts, and the literals passed to a logger, errors.New and fmt.Errorf.
func checkGo(name string, source []byte) ([]problem, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	line := func(n ast.Node) int { return files.Position(n.Pos()).Line }
	var problems []problem
	for _, group := range file.Comments {
		var text []string
		for _, comment := range group.List {
			for part := range strings.SplitSeq(comment.Text, "\n") {
				text = append(text, strings.TrimPrefix(part, "//"))
			}
		}
		problems = append(problems, checkWords(strings.Join(text, "\n"), line(group), false)...)
	}
	if strings.HasSuffix(name, "_test.go") {
		return problems, nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if n.Tag != nil {
				tag := jsonName.ReplaceAllString(n.Tag.Value, "")
				problems = append(problems, checkWords(tag, line(n.Tag), false)...)
			}
		case *ast.CallExpr:
			selector, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			called := selector.Sel.Name
			if receiver, ok := selector.X.(*ast.Ident); ok {
				called = receiver.Name + "." + called
			}
			isLog := logs.MatchString(called) && called != "http.Error" && called != "t.Error"
			if !isLog && called != "errors.New" && called != "fmt.Errorf" {
				return true
			}
			for _, argument := range n.Args {
				literal, ok := argument.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					continue
				}
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					continue
				}
				problems = append(problems, checkWords(text, line(literal), false)...)
				if isLog {
					problems = append(problems, checkLog(text, line(literal))...)
				}
				break // attributes follow the message
			}
		}
		return true
	})
	return problems, nil
}

var logs = regexp.MustCompile(`(^|\.)((Debug|Info|Warn|Error)(Context)?|LogAttrs)$`)

func checkLog(message string, line int) []problem {
	var problems []problem
	first, size := utf8.DecodeRuneInString(message)
	second, _ := utf8.DecodeRuneInString(message[size:])
	if unicode.IsUpper(first) && unicode.IsLower(second) {
		problems = append(problems, problem{line, "begin a log message in lower case"})
	}
	if strings.HasSuffix(message, ".") {
		problems = append(problems, problem{line, "end a log message without a full stop"})
	}
	return problems
}

var code = regexp.MustCompile("`[^`]*`")

// checkMarkdown checks prose. It skips code, whose words are another's and whose
// lines may be commands, and the length of tables and of lines with a URL.
func checkMarkdown(source string) []problem {
	var problems []problem
	var prose []string
	fenced := false
	for i, line := range strings.Split(source, "\n") {
		trimmed := strings.TrimSpace(line)
		fence := strings.HasPrefix(trimmed, "```")
		if fence {
			fenced = !fenced
		}
		if fence || fenced {
			prose = append(prose, "")
			continue
		}
		prose = append(prose, line)
		if n := utf8.RuneCountInString(line); n > maxLine && trimmed[0] != '|' && !strings.Contains(line, "://") {
			problems = append(problems, problem{i + 1, fmt.Sprintf("the line has %d characters; break it at %d", n, maxLine)})
		}
	}
	text := code.ReplaceAllStringFunc(strings.Join(prose, "\n"), func(span string) string {
		return strings.Repeat("\n", strings.Count(span, "\n"))
	})
	return append(problems, checkWords(text, 1, true)...)
}
