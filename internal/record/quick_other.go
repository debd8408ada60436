//go:build !linux || !(amd64 || arm64)

package record

import "os"

func newSegment(f *os.File) (file, error) { return f, nil }
