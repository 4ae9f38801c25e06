package cli

// WritePrompt lets tests choose the tools.
var WritePrompt = writePrompt
