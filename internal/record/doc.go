// Package record keeps the permanent record: every decision and every change.
//
// It promises that Record returns only after its decisions are durable, and
// that a change and its record are one transaction (promise P3). Decisions hold
// opaque ids and the facts they rest on; no names, no e-mails, no free text.
package record
