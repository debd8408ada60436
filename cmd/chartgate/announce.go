package main

import (
	"fmt"
	"io"
)

// announcement is what `chartgate run` says when it is ready.
type announcement struct {
	sidecar, control string // base URLs
	key, keyFrom     string
	stores, policy   string
	demo             bool
}

// announce prints where everything is, and two lines that can be pasted.
func announce(out io.Writer, a announcement) {
	fmt.Fprintf(out, `
Chartgate is ready.

  sidecar  %s
  control  %s
  key      %s
           (%s; every scope, all practices, any person, and author and approver
            of releases of the policy both: not for production)
  stores   %s
  policy   %s
`, a.sidecar, a.control, a.key, a.keyFrom, a.stores, a.policy)
	if a.demo {
		fmt.Fprintf(out, `
May practitioner-1 open the chart of client-1?

curl -sS -w '\n' %[1]s/access/v1/evaluation -H 'Authorization: Bearer %[3]s' -H 'Content-Type: application/json' -d '{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}'

He may not open that of client-2, until admin-1 gives him access:

curl -sS -w '\n' %[2]s/api/v1/practices/practice-1/clients/client-2/grants -H 'Authorization: Bearer %[3]s' -H 'Chartgate-Actor: admin-1' -H 'Content-Type: application/json' -d '{"user":"practitioner-1","reason":"cover"}'

client-1 has a second profile, client-1-ot, with practitioner-2; portal-1 is the one portal login of both.
`, a.sidecar, a.control, a.key)
	}
	fmt.Fprintln(out, "\nCtrl-C stops everything.")
}
