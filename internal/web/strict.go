package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"chartgate/internal/authz"
)

// Limits of a JSON text that Strict reads.
const (
	MaxDepth = 64      // objects and arrays inside one another
	MaxItems = 100_000 // values in the whole text
)

// Strict reads one JSON text the way I-JSON (RFC 7493) asks: UTF-8 without a
// byte order mark, no lone surrogates, no duplicate member names, numbers
// within double precision, nothing after the value; and no U+0000, which
// Postgres cannot store. Member names are taken exactly as written.
//
// An object becomes a map[string]any, an array a []any, a number a
// json.Number. Nothing in the result points into body. The error is an
// *authz.Problem that says where the fault is.
func Strict(body []byte) (any, error) {
	v, f := parse(body)
	if f != nil {
		return nil, f.problem()
	}
	return v, nil
}

// StrictObject is Strict for a text whose top level must be an object.
func StrictObject(body []byte) (map[string]any, error) {
	v, err := Strict(body)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, Malformed("the body must be a JSON object", "", "must be an object")
	}
	return object, nil
}

func parse(body []byte) (any, *fault) {
	s := scanner{text: body}
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		return nil, s.fault(notJSON, "the body is empty")
	}
	if bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) {
		return nil, s.fault(notStrict, "a byte order mark is not allowed")
	}
	if !utf8.Valid(body) {
		return nil, s.fault(notStrict, "the text is not UTF-8")
	}
	v, f := s.value(0)
	if f != nil {
		return nil, f
	}
	s.space()
	if s.at < len(s.text) {
		return nil, s.fault(notJSON, "there is more after the value")
	}
	return v, nil
}

// A fault's kind says whether encoding/json would refuse the text as well.
type faultKind int

const (
	notJSON   faultKind = iota // the text is not JSON
	notStrict                  // it is, but Strict asks for more
)

type fault struct {
	kind    faultKind
	at      int // byte offset
	why     string
	pointer string // JSON pointer to the value with the fault
}

func (f *fault) problem() error {
	where := ""
	if f.pointer != "" {
		where = " in " + f.pointer
	}
	return Malformed(fmt.Sprintf("the body cannot be read: %s%s (byte %d)", f.why, where, f.at), f.pointer, f.why)
}

// inside puts the fault one step deeper: it was found under this member.
func (f *fault) inside(step string) *fault {
	f.pointer = "/" + escapePointer(step) + f.pointer
	return f
}

// escapePointer writes a member name as one step of a JSON pointer (RFC 6901).
func escapePointer(step string) string {
	if !strings.ContainsAny(step, "~/") {
		return step
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
}

// scanner reads a JSON text that is known to be UTF-8.
type scanner struct {
	text  []byte
	at    int
	items int
}

func (s *scanner) fault(kind faultKind, why string) *fault {
	return &fault{kind: kind, at: s.at, why: why}
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// next returns the next byte that is no white space, or 0 at the end.
func (s *scanner) next() byte {
	s.space()
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

func (s *scanner) value(depth int) (any, *fault) {
	if s.items++; s.items > MaxItems {
		return nil, s.fault(notStrict, "there are more than "+strconv.Itoa(MaxItems)+" values")
	}
	switch c := s.next(); {
	case c == '{':
		if depth == MaxDepth {
			return nil, s.fault(notStrict, "it is nested more than "+strconv.Itoa(MaxDepth)+" deep")
		}
		return s.object(depth + 1)
	case c == '[':
		if depth == MaxDepth {
			return nil, s.fault(notStrict, "it is nested more than "+strconv.Itoa(MaxDepth)+" deep")
		}
		return s.array(depth + 1)
	case c == '"':
		return s.str()
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return true, s.word("true")
	case c == 'f':
		return false, s.word("false")
	case c == 'n':
		return nil, s.word("null")
	case s.at == len(s.text):
		return nil, s.fault(notJSON, "the text ends too early")
	}
	return nil, s.fault(notJSON, "a value was expected")
}

func (s *scanner) word(w string) *fault {
	if !bytes.HasPrefix(s.text[s.at:], []byte(w)) {
		return s.fault(notJSON, "a value was expected")
	}
	s.at += len(w)
	return nil
}

func (s *scanner) object(depth int) (any, *fault) {
	object := map[string]any{}
	s.at++
	if s.next() == '}' {
		s.at++
		return object, nil
	}
	for {
		if s.next() != '"' {
			return nil, s.fault(notJSON, "a member name was expected")
		}
		start := s.at
		name, f := s.str()
		if f != nil {
			return nil, f
		}
		if _, twice := object[name]; twice {
			s.at = start
			return nil, s.fault(notStrict, "the member name occurs twice").inside(name)
		}
		if s.next() != ':' {
			return nil, s.fault(notJSON, "a colon was expected").inside(name)
		}
		s.at++
		v, f := s.value(depth)
		if f != nil {
			return nil, f.inside(name)
		}
		object[name] = v
		switch s.next() {
		case ',':
			s.at++
		case '}':
			s.at++
			return object, nil
		default:
			return nil, s.fault(notJSON, "a comma or the end of the object was expected")
		}
	}
}

func (s *scanner) array(depth int) (any, *fault) {
	array := []any{}
	s.at++
	if s.next() == ']' {
		s.at++
		return array, nil
	}
	for {
		v, f := s.value(depth)
		if f != nil {
			return nil, f.inside(strconv.Itoa(len(array)))
		}
		array = append(array, v)
		switch s.next() {
		case ',':
			s.at++
		case ']':
			s.at++
			return array, nil
		default:
			return nil, s.fault(notJSON, "a comma or the end of the array was expected")
		}
	}
}

// str reads a string; the scanner stands on its first quote.
func (s *scanner) str() (string, *fault) {
	s.at++
	for i := s.at; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			text := string(s.text[s.at:i])
			s.at = i + 1
			return text, nil
		case c == '\\':
			return s.escaped()
		case c < 0x20:
			s.at = i
			return "", s.fault(notJSON, "a control character in a string must be escaped")
		}
	}
	s.at = len(s.text)
	return "", s.fault(notJSON, "the text ends inside a string")
}

// escaped reads the rest of a string that has escapes in it.
func (s *scanner) escaped() (string, *fault) {
	var out []byte
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return string(out), nil
		case c == '\\':
			r, f := s.escape()
			if f != nil {
				return "", f
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", s.fault(notJSON, "a control character in a string must be escaped")
		default:
			out = append(out, c)
			s.at++
		}
	}
	return "", s.fault(notJSON, "the text ends inside a string")
}

var escapes = [256]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (s *scanner) escape() (rune, *fault) {
	if s.at+1 == len(s.text) {
		return 0, s.fault(notJSON, "the text ends inside a string")
	}
	c := s.text[s.at+1]
	if c != 'u' {
		if escapes[c] == 0 {
			return 0, s.fault(notJSON, "there is no such escape")
		}
		s.at += 2
		return escapes[c], nil
	}
	r, ok := s.hex(s.at)
	if !ok {
		return 0, s.fault(notJSON, "\\u must be followed by four hexadecimal digits")
	}
	if r == 0 {
		return 0, s.fault(notStrict, "U+0000 is not allowed")
	}
	if !utf16.IsSurrogate(r) {
		s.at += 6
		return r, nil
	}
	low, ok := s.hex(s.at + 6)
	if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
		s.at += 12
		return pair, nil
	}
	return 0, s.fault(notStrict, "a lone surrogate is not allowed")
}

// hex reads \uXXXX at the offset.
func (s *scanner) hex(at int) (rune, bool) {
	if at+6 > len(s.text) || s.text[at] != '\\' || s.text[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.text[at+2 : at+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (s *scanner) number() (any, *fault) {
	start := s.at
	if s.text[s.at] == '-' {
		s.at++
	}
	switch {
	case s.at < len(s.text) && s.text[s.at] == '0':
		s.at++
	case !s.digits():
		return nil, s.fault(notJSON, "a digit was expected")
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.digits() {
			return nil, s.fault(notJSON, "a digit was expected")
		}
	}
	if s.at < len(s.text) && (s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if !s.digits() {
			return nil, s.fault(notJSON, "a digit was expected")
		}
	}
	text := string(s.text[start:s.at])
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		s.at = start
		return nil, s.fault(notStrict, "the number is out of range")
	}
	return json.Number(text), nil
}

// digits reads one or more digits, and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// Malformed makes a problem for a request that cannot be read. Without a
// pointer it names no field.
func Malformed(detail, pointer, why string) *authz.Problem {
	p := &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: detail}
	if pointer != "" {
		p.Fields = []authz.Field{{Pointer: pointer, Detail: why}}
	}
	return p
}
