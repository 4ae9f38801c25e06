package cli

import (
	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/posener/complete"
)

type completionCommand struct{ kongcompletion.Completion }

// Help is shown above the flags.
func (completionCommand) Help() string {
	return `Prints the command that sets completion up; your shell has to find ringback on its PATH, so install it first. Without a shell's name, that of your login shell is printed.

Examples:

  go install ./cmd/ringback
  ringback completion
  source <(ringback completion bash --code)
  ringback completion fish --code > ~/.config/fish/completions/ringback.fish`
}

// completeShell answers a shell that asks for completions. It says so to the
// parser, by exiting.
func completeShell(parser *kong.Kong) {
	kongcompletion.Register(parser, kongcompletion.WithPredictor("json", complete.PredictOr(complete.PredictDirs("*"), complete.PredictFiles("*.json"))))
}
