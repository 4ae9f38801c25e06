package page

// Masked masks the numbers in a text.
func Masked(text string) string { return masked(text) }
