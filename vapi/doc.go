// Package vapi reads Vapi's webhooks, writes the answers to them, and defines the control messages
// that act on a live call.
//
// [ParseMessage] reads a webhook. [Answer], [AnswerFunctionCall] and [AnswerOther] write its answer.
// [ControlMessage] is a message for a call's control URL. Package vapiauth verifies who sent a webhook. Package
// vapiclient posts control messages and calls Vapi's API.
//
// The package knows nothing of queues, tables or tools.
//
// Facts about Vapi come from its documentation (https://docs.vapi.ai/server-url/events), from its
// OpenAPI description (https://api.vapi.ai/api-json) and from recorded webhooks. If these disagree,
// the recorded webhooks count. Comments name the source of a fact.
package vapi
