package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"chartgate/internal/authz"
)

func TestStrictReadsWhatEncodingJSONReads(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `null`, `true`, `false`, `""`, `0`, `-0`, `-1.5e+3`, ` {"a" : [1, 2.0, {"b": null}]} `, "\t[\r\n1]\n",
		`"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac"`, `"\ud83d\ude00"`, `"é€😀"`, `{"": {"/": {"~": 1}}}`, `{"subject": 1, "SUBJECT": 2}`,
		`1e308`, `1e-400`, `123456789012345678901234567890`, "\"\u007f\"",
	} {
		got, err := Strict([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want := reference(t, []byte(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read as %#v, encoding/json reads %#v", text, got, want)
		}
	}
}

func TestStrictRefuses(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	for _, tc := range []struct{ name, text, pointer, why string }{
		{"nothing", "", "", "empty"},
		{"white space", " \n", "", "empty"},
		{"a second value", `{} {}`, "", "more after the value"},
		{"trailing text", `{"a": 1} x`, "", "more after the value"},
		{"trailing comma", `{"a": 1,}`, "", "member name"},
		{"trailing comma in an array", `[1,]`, "/1", "value was expected"},
		{"a duplicate", `{"a": 1, "b": 2, "a": 1}`, "/a", "twice"},
		{"a duplicate, escaped", `{"a": 1, "\u0061": 1}`, "/a", "twice"},
		{"a duplicate, deep", `{"x": [{}, {"a/b": {"c": 1, "c": 2}}]}`, "/x/1/a~1b/c", "twice"},
		{"a byte order mark", "\xef\xbb\xbf{}", "", "byte order mark"},
		{"bad UTF-8", "{\"a\": \"\xff\"}", "", "not UTF-8"},
		{"UTF-8 of a surrogate", "\"\xed\xa0\x80\"", "", "not UTF-8"},
		{"an overlong slash", "\"\xc0\xaf\"", "", "not UTF-8"},
		{"a lone high surrogate", `{"a": "\ud800"}`, "/a", "surrogate"},
		{"a lone low surrogate", `"\udc00"`, "", "surrogate"},
		{"two high surrogates", `"\ud800\ud800"`, "", "surrogate"},
		{"a high surrogate before a letter", `"\ud800A"`, "", "surrogate"},
		{"U+0000", `{"a": "x\u0000"}`, "/a", "U+0000"},
		{"U+0000 in a name", `{"\u0000": 1}`, "", "U+0000"},
		{"a raw control character", "\"\x01\"", "", "control character"},
		{"a raw line feed", "\"a\\u0041\n\"", "", "control character"},
		{"a bad escape", `"\x41"`, "", "escape"},
		{"a short escape", `"\u12"`, "", "hexadecimal"},
		{"a bad hexadecimal digit", `"\u12G4"`, "", "hexadecimal"},
		{"an escape at the end", `"\`, "", "ends inside a string"},
		{"an open string", `"abc`, "", "ends inside a string"},
		{"an open escaped string", `"a\n`, "", "ends inside a string"},
		{"an open object", `{"a": 1`, "", "end of the object"},
		{"an open array", `[1`, "", "end of the array"},
		{"no value", `{"a":`, "/a", "ends too early"},
		{"no colon", `{"a" 1}`, "/a", "colon"},
		{"a bare name", `{a: 1}`, "", "member name"},
		{"single quotes", `{'a': 1}`, "", "member name"},
		{"a comment", `/* */ {}`, "", "value was expected"},
		{"NaN", `NaN`, "", "value was expected"},
		{"a leading zero", `01`, "", "more after the value"},
		{"a plus", `+1`, "", "value was expected"},
		{"only a minus", `-`, "", "digit"},
		{"no digits after the point", `1.`, "", "digit"},
		{"no digits in the exponent", `1e+`, "", "digit"},
		{"a number beyond double precision", `{"n": 1e400}`, "/n", "out of range"},
		{"half a word", `tru`, "", "value was expected"},
		{"a longer word", `nullx`, "", "more after the value"},
		{"too deep", deep, strings.Repeat("/0", MaxDepth), "deep"},
		{"too many values", "[" + strings.Repeat("0,", MaxItems) + "0]", "/99999", "more than 100000 values"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := Strict([]byte(tc.text))
			var p *authz.Problem
			if !errors.As(err, &p) {
				t.Fatalf("read as %#v, error %v", v, err)
			}
			if !errors.Is(err, authz.ErrMalformed) || !strings.Contains(p.Detail, tc.why) {
				t.Errorf("refused with %q, which does not say %q", p.Detail, tc.why)
			}
			var pointer string
			if len(p.Fields) > 0 {
				pointer = p.Fields[0].Pointer
			}
			if pointer != tc.pointer {
				t.Errorf("points at %q, want %q", pointer, tc.pointer)
			}
		})
	}
}

func TestStrictTakesWhatIsJustWithinTheLimits(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth),
		"[" + strings.Repeat("0,", MaxItems-2) + "0]",
	} {
		if _, err := Strict([]byte(text)); err != nil {
			t.Errorf("%.20s…: %v", text, err)
		}
	}
}

func TestStrictCopies(t *testing.T) {
	body := []byte(`{"name": "value", "esc": "a\u0062", "n": 12}`)
	v, err := Strict(body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 'x'
	}
	want := map[string]any{"name": "value", "esc": "ab", "n": json.Number("12")}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("after the buffer was used again: %#v", v)
	}
}

func TestStrictObjectRefusesOtherValues(t *testing.T) {
	for _, text := range []string{`[]`, `"a"`, `null`, `1`} {
		if _, err := StrictObject([]byte(text)); !errors.Is(err, authz.ErrMalformed) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzStrict holds Strict against encoding/json: what Strict takes means the
// same there and names no member twice, and what it refuses as no JSON is none.
func FuzzStrict(f *testing.F) {
	for _, seed := range []string{
		`{"subject":{"type":"user","id":"a"},"SUBJECT":{}}`, `{"a":1,"a":2}`, `[1e5,-0.1,"\ud83d\ude00\u00e9"]`, `{"a":"\ud800"}`,
		"\xef\xbb\xbf{}", "\"\xff\"", `{} x`, `[[[[]]]]`, `"\u0000"`, `1e999`, `  {"a" : [ true , false , null ] }  `, `{"a":{"b":{"c":1,"c":1}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, fault := parse(body)
		valid := json.Valid(body)
		if fault != nil {
			if valid && fault.kind == notJSON {
				t.Fatalf("refused as no JSON (%s), but it is: %q", fault.why, body)
			}
			return
		}
		if !valid || !utf8.Valid(body) {
			t.Fatalf("taken, but it is no JSON in UTF-8: %q", body)
		}
		if want := reference(t, body); !reflect.DeepEqual(v, want) {
			t.Fatalf("%q is read as %#v, encoding/json reads %#v", body, v, want)
		}
		if name, twice := duplicate(json.NewDecoder(bytes.NewReader(body))); twice {
			t.Fatalf("%q: taken, but %q occurs twice", body, name)
		}
	})
}

func reference(t *testing.T, body []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: encoding/json: %v", body, err)
	}
	return v
}

// duplicate finds a member name that occurs twice in one object, by walking
// encoding/json's tokens.
func duplicate(d *json.Decoder) (string, bool) {
	type level struct {
		object bool
		name   bool // a name comes next
		seen   map[string]bool
	}
	var stack []*level
	for {
		token, err := d.Token()
		if err == io.EOF || err != nil {
			return "", false
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if name, ok := token.(string); ok && top != nil && top.object && top.name {
			if top.seen[name] {
				return name, true
			}
			top.seen[name], top.name = true, false
			continue
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			stack = append(stack, &level{object: token == json.Delim('{'), name: true, seen: map[string]bool{}})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 0 {
			stack[len(stack)-1].name = true
		}
	}
}

func BenchmarkStrict(b *testing.B) {
	body := []byte(`{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"note.read"},"resource":{"type":"note","id":"note-1",` +
		`"properties":{"client":"client-1","author":"practitioner-1","kind":"progress","signed":true}},"context":{"purpose":"treatment"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Strict(body); err != nil {
			b.Fatal(err)
		}
	}
}
