package cli

// WritePrompt lets tests choose the tools.
var WritePrompt = writePrompt

// WriteVersion lets tests choose the build.
var WriteVersion = writeVersion
