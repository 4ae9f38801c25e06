// Package vapi is Vapi's side of the wire: the webhook that Vapi posts when an
// assistant calls tools, the answer it expects, how such a request is
// authenticated, the control messages that reach a live call, and the API that
// sets tools up.
//
// [ParseMessage] reads a webhook, [Answer] and [AnswerOther] answer it. The
// package knows nothing of queues, tables or tools.
//
// Facts come from Vapi's documentation (https://docs.vapi.ai/server-url/events),
// from its OpenAPI description (https://api.vapi.ai/api-json) and, where these
// differ from what is sent, from recorded webhooks.
package vapi
