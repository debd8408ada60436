package sidecar

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// The searches of the certification scenario, on a bundle of one's own: what its
// data name is tried, and kept where it evaluates to true.
func TestOwnBundleIsSearched(t *testing.T) {
	b := ownSearching(t, ownEngine(t, ownDecision))
	alice, record1 := `{"type":"user","id":"alice"}`, `{"type":"record","id":"record-1"}`
	b.finds(t, "subject", searchText(`{"type":"user"}`, "read", record1), "user alice", "user bob")
	b.finds(t, "subject", searchText(`{"type":"user","id":"ignored"}`, "write", record1), "user alice")
	b.finds(t, "resource", searchText(alice, "read", `{"type":"record"}`), "record record-1", "record record-2")
	b.finds(t, "resource", searchText(alice, "write", `{"type":"record","properties":{"status":"archived"}}`))
	b.finds(t, "resource", searchText(`{"type":"user","id":"bob"}`, "write", `{"type":"record"}`))
	b.finds(t, "action", searchText(alice, "", record1), "read", "write")
	b.finds(t, "action", searchText(`{"type":"user","id":"bob"}`, "delete", record1), "read")
	for _, unknown := range []string{searchText(`{"type":"robot"}`, "read", record1), searchText(`{"type":"user"}`, "no-such", record1), searchText(`{"type":"user"}`, "read", `{"type":"record","id":"record-9"}`),
		searchText(`{"type":"a\"]; data.x[\"b"}`, "read", record1)} {
		b.finds(t, "subject", unknown)
	}
	b.finds(t, "action", searchText(alice, "", `{"type":"account","id":"1"}`))
	b.store.taken()
	first, next := resultsOf(t, b.do(t, "POST", searchPath+"subject", strings.TrimSuffix(searchText(`{"type":"user"}`, "read", record1), "}")+`,"page":{"limit":1}}`))
	if !slices.Equal(first, []string{"user alice"}) || next == "" {
		t.Fatalf("%q %q", first, next)
	}
	if v := b.store.taken(); len(v) != 1 || v[0].Exact.Code != authz.CodeListed || !strings.Contains(string(v[0].Input), `"results":["alice"]`) {
		t.Errorf("on record: %+v", v)
	}
	rest, _ := resultsOf(t, b.do(t, "POST", searchPath+"subject", strings.TrimSuffix(searchText(`{"type":"user"}`, "read", record1), "}")+`,"page":{"token":"`+next+`"}}`))
	if !slices.Equal(rest, []string{"user bob"}) {
		t.Errorf("%q", rest)
	}
	if r := b.post(t, 400, searchPath+"subject", strings.TrimSuffix(searchText(`{"type":"user"}`, "write", record1), "}")+`,"page":{"token":"`+next+`"}}`); !strings.Contains(r.body, "cursor") {
		t.Errorf("%s", r.body)
	}
}

// bundleOf makes an engine of one policy with data.
func bundleOf(t *testing.T, rego, data string) *pdp.Engine {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{"policy.rego": rego, "data.json": data} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := pdp.LoadBundle(folder)
	if err != nil {
		t.Fatal(err)
	}
	e, err := pdp.NewEngine(t.Context(), b, "data.mine.allow")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOwnBundleNamesWhatThereIs(t *testing.T) {
	const rego = "package mine\n\ndefault allow := false\n\nallow if input.resource.properties.open\n\nallow if input.subject.id == \"root\"\n"
	root := `{"type":"user","id":"root"}`
	b := ownSearching(t, bundleOf(t, rego, `{"entities": {"door": {"b": {"open": true}, "a": {"open": true, "x": 1}, "c": {"open": false}, "d": true}}, "actions": {"door": ["use", "use", "lock"]}}`))
	b.finds(t, "resource", searchText(practitioner1, "use", `{"type":"door"}`), "door a", "door b") // by the properties that the data say
	b.finds(t, "resource", searchText(practitioner1, "use", `{"type":"door","properties":{"open":false}}`))
	b.finds(t, "resource", searchText(root, "use", `{"type":"door"}`), "door a", "door b", "door c", "door d")
	b.finds(t, "action", searchText(root, "", `{"type":"door","id":"a"}`), "lock", "use")

	for name, c := range map[string]struct {
		data   string
		status int
	}{
		"nothing is named":        {`{}`, 501},
		"neither list nor object": {`{"entities": {"door": 7}, "actions": {"door": "use"}}`, 503},
		"no ids":                  {`{"entities": {"door": [7]}, "actions": {"door": [null]}}`, 503},
		"empty ids":               {`{"entities": {"door": {"": {}}}, "actions": {"door": [""]}}`, 503},
	} {
		b := ownSearching(t, bundleOf(t, rego, c.data))
		r := b.post(t, c.status, searchPath+"resource", searchText(root, "use", `{"type":"door"}`))
		a := b.post(t, c.status, searchPath+"action", searchText(root, "", `{"type":"door","id":"a"}`))
		if c.status == 501 && (!strings.Contains(r.body, "data.entities") || !strings.Contains(a.body, "data.actions")) {
			t.Errorf("%s: %s, %s", name, r.body, a.body)
		}
	}
	failing := ownSearching(t, bundleOf(t, "package mine\n\nallow := true if input.subject.id\n\nallow := false if input.resource.id == \"b\"\n", `{"entities": {"door": ["a", "b"]}}`))
	failing.post(t, 503, searchPath+"resource", searchText(root, "use", `{"type":"door"}`))
	broken := ownSearching(t, bundleOf(t, rego, `{"entities": {"door": ["a"]}}`))
	broken.store.refuse = errDown
	broken.post(t, 503, searchPath+"resource", searchText(root, "use", `{"type":"door"}`))
}

// A page stops after so many tries, says that there is more, and goes on there.
func TestOwnBundleIsSearchedInBoundedSteps(t *testing.T) {
	var ids, want []string
	for i := range 4500 {
		ids = append(ids, fmt.Sprintf("%05d", i))
		if i%1500 == 1499 {
			want = append(want, "door "+ids[i])
		}
	}
	data, err := json.Marshal(map[string]any{"entities": map[string]any{"door": ids}, "open": []string{"01499", "02999", "04499"}})
	if err != nil {
		t.Fatal(err)
	}
	b := ownSearching(t, bundleOf(t, "package mine\n\ndefault allow := false\n\nallow if input.resource.id in data.open\n", string(data)))
	var got []string
	pages := 0
	for page := `{"limit":100}`; page != ""; pages++ {
		results, next := resultsOf(t, b.do(t, "POST", searchPath+"resource", strings.TrimSuffix(searchText(practitioner1, "use", `{"type":"door"}`), "}")+`,"page":`+page+`}`))
		got = append(got, results...)
		if page = ""; next != "" {
			page = `{"token":"` + next + `"}`
		}
	}
	if !reflect.DeepEqual(got, want) || pages != 3 {
		t.Errorf("%q in %d pages", got, pages)
	}
}

// Nobody but the bundle knows which practice its input is about, so that its
// searches need a caller for all practices.
func TestOwnBundleIsSearchedByCallersForAll(t *testing.T) {
	r := searchingWith(t, ownEngine(t, ownDecision))
	_, key, err := r.keys.Make(t.Context(), web.NewKey{Scopes: []string{web.ScopeAsk}, Practices: []string{"practice-1"}})
	if err != nil {
		t.Fatal(err)
	}
	r.post(t, 403, searchPath+"subject", searchText(anyUser, "read", `{"type":"record","id":"record-1"}`), "Authorization", "Bearer "+key)
}
