// Package soak holds no code of the product: only the tests that run whole
// services through faults and check every answer against promise P2. In CI they
// are short; `make soak` runs them long.
package soak
