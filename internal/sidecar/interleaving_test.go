package sidecar

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"chartgate/internal/authz"
)

// asked is one request of the interleaving tests, and what must be kept of it.
type asked struct {
	id         string // of the request
	path, body string
	allow      bool
	requests   []authz.Request
}

// interleave sends the requests over a few connections that stay open, so that
// the server uses its buffers again and again while the store still holds what
// it was given, and returns the answers' bodies by request.
func interleave(t *testing.T, b bench, requests []asked) map[string]string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- b.App.Listener(listener) }()
	const connections = 8
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}}
	queue := make(chan asked)
	answers := map[string]string{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range 2 * connections {
		wait.Go(func() {
			for a := range queue {
				request, err := http.NewRequest("POST", "http://"+listener.Addr().String()+a.path, bytes.NewReader([]byte(a.body)))
				if err != nil {
					t.Error(err)
					continue
				}
				request.Header.Set("Authorization", "Bearer "+testKey)
				request.Header.Set("Content-Type", "application/json")
				request.Header.Set("X-Request-ID", a.id)
				request.Header.Set(HeaderMinRevision, "revision-of-"+a.id)
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					continue
				}
				text, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || response.Header.Get("X-Request-ID") != a.id {
					t.Errorf("%s: %d %v %v %s", a.id, response.StatusCode, err, response.Header, text)
				}
				mu.Lock()
				answers[a.id] = string(text)
				mu.Unlock()
			}
		})
	}
	for _, a := range requests {
		queue <- a
	}
	close(queue)
	wait.Wait()
	client.CloseIdleConnections()
	if err := b.App.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	return answers
}

// checkKept holds what the fact source and the recorder kept, after all
// requests have come and gone, against what was asked.
func checkKept(t *testing.T, b bench, requests []asked, answers map[string]string) {
	t.Helper()
	kept := map[string][]authz.Verdict{}
	for _, v := range b.store.recorded {
		kept[v.RequestID] = append(kept[v.RequestID], v)
	}
	given := map[string]int{}
	for _, r := range b.store.asked {
		given[fmt.Sprint(r)]++
	}
	for _, a := range requests {
		verdicts := kept[a.id]
		if len(verdicts) != len(a.requests) {
			t.Fatalf("request %s: %d verdicts are kept, want %d", a.id, len(verdicts), len(a.requests))
		}
		for i, want := range a.requests {
			if got := verdicts[i].Request; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("request %s: recorded %+v, asked %+v", a.id, got, want)
			}
			if given[fmt.Sprint(want)]--; given[fmt.Sprint(want)] < 0 {
				t.Errorf("request %s: facts were not asked for %+v", a.id, want)
			}
		}
		if says := strings.Contains(answers[a.id], "true"); says != a.allow {
			t.Errorf("request %s got another's answer: %s", a.id, answers[a.id])
		}
	}
}

// noteRequest is a question whose every text is its own, of changing length.
func noteRequest(i int) (string, authz.Request, bool) {
	mark := fmt.Sprintf("%d-%s", i, strings.Repeat(string(rune('a'+i%26)), i%40))
	client, allow := "client-1", i%3 != 0
	if !allow {
		client = "client-2"
	}
	r := authz.Request{
		Subject: authz.Subject{Type: authz.SubjectUser, ID: "practitioner-1"}, Action: "note.read",
		Resource: authz.Resource{Type: authz.ResourceNote, ID: "note-" + mark,
			Properties: authz.Properties{"client": client, "author": "author-" + mark, "kind": "progress", "signed": i%2 == 0}},
		Context: authz.Context{Purpose: "purpose-" + fmt.Sprint(i), MinRevision: "revision-of-request-" + mark},
	}
	more := "" // half of them take the way of the plain form
	if i%2 == 0 {
		more = `,"title":"not kept"`
	}
	body := fmt.Sprintf(`{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"note.read"},"resource":{"type":"note","id":%q,
		"properties":{"client":%q,"author":%q,"kind":"progress","signed":%v%s}},"context":{"purpose":"purpose-%d"}}`,
		r.Resource.ID, client, "author-"+mark, i%2 == 0, more, i)
	return body, r, allow
}

func requestsOf(path string) []asked {
	out := make([]asked, 500)
	for i := range out {
		body, r, allow := noteRequest(i)
		id := strings.TrimPrefix(r.Context.MinRevision, "revision-of-")
		switch path {
		case "/access/v1/evaluations":
			second := r
			second.Resource.ID += "x"
			body = `{"evaluations":[` + body + `,` + strings.Replace(body, r.Resource.ID, second.Resource.ID, 1) + `]}`
			out[i] = asked{id, path, body, allow, []authz.Request{r, second}}
		case "/v1/data/authz/decision":
			out[i] = asked{id, path, `{"input":` + body + `}`, allow, []authz.Request{r}}
		default:
			out[i] = asked{id, path, body, allow, []authz.Request{r}}
		}
	}
	return out
}

// Fiber's strings point into buffers that the next request uses: what the fact
// source and the recorder keep must be copies.
func TestInterleavedRequestsKeepTheirOwn(t *testing.T) {
	b := shipped(t)
	requests := requestsOf("/access/v1/evaluation")
	checkKept(t, b, requests, interleave(t, b, requests))
}

func TestFiberBuffersAreCopiedOnEveryRoute(t *testing.T) {
	for _, path := range []string{"/access/v1/evaluations", "/v1/data/authz/decision", "/"} {
		t.Run(strings.Trim(strings.ReplaceAll(path, "/", " "), " "), func(t *testing.T) {
			b := shipped(t)
			requests := requestsOf(path)
			checkKept(t, b, requests, interleave(t, b, requests))
		})
	}
}
