package authz

import (
	"unicode"
	"unicode/utf8"
)

// MaxID is the length of the longest id, in bytes (DESIGN 11, Words).
const MaxID = 128

// ValidID reports whether s can be an id: 1–128 bytes of UTF-8 without control
// characters (DESIGN 11, Words). Ids are opaque: nothing else is asked of them.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > MaxID {
		return false
	}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < 0x20 || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && n == 1) || unicode.IsControl(r) {
			return false
		}
		i += n
	}
	return true
}

// ValidPurpose reports whether s is a purpose of use: a word of 1–64 letters,
// digits, "_", "-", "." or ":". Free text is no purpose, since a purpose is
// recorded and free text must not be (DOMAIN 4.1).
func ValidPurpose(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == '-', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}
