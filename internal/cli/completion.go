package cli

import (
	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/posener/complete"
)

type completionCommand struct{ kongcompletion.Completion }

// Help returns the text above the flags.
func (completionCommand) Help() string {
	return `Your shell must find ringback in its PATH, so install ringback first. Without the name of a shell, the command
for your login shell is printed.

Examples:

  go install ./cmd/ringback
  ringback completion
  source <(ringback completion bash --code)
  ringback completion fish --code > ~/.config/fish/completions/ringback.fish`
}

// completeShell answers a shell that asks for completions. It then exits the parser.
func completeShell(parser *kong.Kong) {
	kongcompletion.Register(parser, kongcompletion.WithPredictor(
		"json", complete.PredictOr(complete.PredictDirs("*"), complete.PredictFiles("*.json"))))
}
