// Command check-style fails on words that this repository does not use, and on long
// lines of Markdown. It reads the comments, log messages, errors and struct tags of
// Go files, and the prose of Markdown files.
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
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

var expressions = func() (all []*regexp.Regexp) {
	for _, w := range words {
		all = append(all, regexp.MustCompile(`(?i)\b(?:`+strings.ReplaceAll(w.avoid, " ", `\s+`)+`)\b`))
	}
	return all
}()

func main() {
	log.SetFlags(0)
	log.SetPrefix("check-style: ")
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go", "*.md").Output()
	if err != nil {
		log.Fatal("cannot list the files: ", err)
	}
	found := 0
	for name := range strings.FieldsSeq(string(out)) {
		source, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || name == "docs/licences.md" { // deleted and not yet committed, or generated
			continue
		}
		var problems []string
		if strings.HasSuffix(name, ".md") {
			problems = checkMarkdown(string(source))
		} else if err == nil {
			problems, err = checkGo(name, source)
		}
		if err != nil {
			log.Fatal(err)
		}
		for _, p := range problems {
			fmt.Printf("%s:%s\n", name, p)
		}
		found += len(problems)
	}
	if found > 0 {
		log.Fatalf("%d problems", found)
	}
}

// checkWords returns what a text that starts at a line has to avoid. A problem begins
// with its line.
func checkWords(text string, line int, markdown bool) (problems []string) {
	for i, w := range words {
		if markdown && !w.inMarkdown {
			continue
		}
		for _, at := range expressions[i].FindAllStringSubmatchIndex(text, -1) {
			if len(at) == 2 || at[2] < 0 {
				match := strings.Join(strings.Fields(text[at[0]:at[1]]), " ")
				problems = append(problems, fmt.Sprintf("%d: instead of %q, write %s",
					line+strings.Count(text[:at[0]], "\n"), match, w.write))
			}
		}
	}
	return problems
}

var (
	// jsonName matches the name of a JSON member, which cannot change with the words.
	jsonName = regexp.MustCompile(`json:"[^"]*"`)
	slashes  = regexp.MustCompile(`(?m)^[ \t]*//`)
	logs     = regexp.MustCompile(`(^|\.)((Debug|Info|Warn|Error)(Context)?|LogAttrs)$`)
	others   = regexp.MustCompile(`^(http\.Error|t\.Error)$`)
	makers   = regexp.MustCompile(`^(errors\.New|fmt\.Errorf)$`)
	capital  = regexp.MustCompile(`^\p{Lu}\p{Ll}`)
)

// checkGo checks all comments. In files that are no tests it also checks struct tags,
// which hold help texts, and the literals passed to a logger, errors.New and fmt.Errorf.
func checkGo(name string, source []byte) (problems []string, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	text := func(n ast.Node) string {
		return string(source[files.Position(n.Pos()).Offset:files.Position(n.End()).Offset])
	}
	check := func(at ast.Node, text string) {
		problems = append(problems, checkWords(text, files.Position(at.Pos()).Line, false)...)
	}
	for _, group := range file.Comments {
		check(group, slashes.ReplaceAllString(text(group), ""))
	}
	if strings.HasSuffix(name, "_test.go") {
		return problems, nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if n.Tag != nil {
				check(n.Tag, jsonName.ReplaceAllString(n.Tag.Value, ""))
			}
		case *ast.CallExpr:
			called := text(n.Fun)
			isLog := logs.MatchString(called) && !others.MatchString(called)
			if !isLog && !makers.MatchString(called) {
				break
			}
			for _, argument := range n.Args {
				literal, ok := argument.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					continue
				}
				message, _ := strconv.Unquote(literal.Value) // the parser accepts only valid literals
				check(literal, message)
				line := files.Position(literal.Pos()).Line
				if isLog && capital.MatchString(message) {
					problems = append(problems, fmt.Sprintf("%d: begin a log message in lower case", line))
				}
				if isLog && strings.HasSuffix(message, ".") {
					problems = append(problems, fmt.Sprintf("%d: end a log message without a full stop", line))
				}
				break // attributes follow the message
			}
		}
		return true
	})
	return problems, nil
}

var code = regexp.MustCompile("`[^`]*`")

// checkMarkdown checks prose. It skips code, whose words are another's and whose
// lines may be commands, and the length of tables and of lines with a URL.
func checkMarkdown(source string) (problems []string) {
	fenced := false
	lines := strings.Split(source, "\n")
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		fence := strings.HasPrefix(trimmed, "```")
		if fence {
			fenced = !fenced
		}
		if fence || fenced {
			lines[i] = ""
		} else if n := utf8.RuneCountInString(line); n > maxLine && trimmed[0] != '|' && !strings.Contains(line, "://") {
			problems = append(problems, fmt.Sprintf("%d: the line has %d characters; break it at %d", i+1, n, maxLine))
		}
	}
	text := code.ReplaceAllStringFunc(strings.Join(lines, "\n"), func(span string) string {
		return strings.Repeat("\n", strings.Count(span, "\n"))
	})
	return append(problems, checkWords(text, 1, true)...)
}
