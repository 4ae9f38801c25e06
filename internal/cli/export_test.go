package cli

// WritePrompt lets tests choose the tools.
var (
	WritePrompt        = writePrompt
	WriteGPTLivePrompt = writeGPTLivePrompt
)

// WriteVersion lets tests choose the build.
var WriteVersion = writeVersion
