// Package policy names what a tool asks for: how its results reach the call, and what
// happens to a result whose call has ended. Package asynctool exports the names for the
// authors of tools. Messages, records and events carry the values.
package policy

// Delivery is how an outcome reaches the call.
type Delivery string

const (
	DeliveryRespond Delivery = "respond" // added to the conversation; the assistant responds
	DeliverySilent  Delivery = "silent"  // added to the conversation; the assistant stays silent
	DeliverySay     Delivery = "say"     // spoken word for word
	DeliveryControl Delivery = "control" // a control message, posted unchanged; tools ask for it by an action
)

// AfterCall decides what happens to a result whose call has ended.
type AfterCall string

const (
	AfterCallEvent        AfterCall = ""          // it becomes an undelivered event; the default
	AfterCallDrop         AfterCall = "drop"      // it is dropped
	AfterCallOutboundCall AfterCall = "call_back" // the customer is called; if that is impossible, an undelivered event
	AfterCallNextCall     AfterCall = "next_call" // it is parked, and delivered in the customer's next call
)
