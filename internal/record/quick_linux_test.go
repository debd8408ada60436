//go:build linux && (amd64 || arm64)

package record

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Told of or not, a write is that of os.File.
func TestAQuickWriteIsAWrite(t *testing.T) {
	folder := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(folder, "segment")
		f, err := createFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		q := f.(*quickFile)
		var want []byte
		for _, b := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 9000), 1, 8).Draw(t, "groups") {
			q.slow = rapid.Bool().Draw(t, "slow")
			if n, err := f.WriteAt(b, int64(len(want))); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			want = append(want, b...)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v: %d bytes are not the %d written", err, len(got), len(want))
		}
	})
}

// A write that falls short says why, as that of os.File does.
func TestAQuickWriteSaysWhyItFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	f := segmentOf(t, full)
	for _, slow := range []bool{false, true} {
		f.slow = slow
		if n, err := f.WriteAt([]byte("group"), 0); n != 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d, %v", n, err)
		}
	}
	f.slow = false
	full.Close()
	if n, err := f.WriteAt([]byte("group"), 0); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("%d, %v", n, err)
	}
}

// After a write that took long Go's scheduler is told of the next ones, until one
// is quick again.
func TestASlowDiskIsNotWaitedForSilently(t *testing.T) {
	made, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	f := segmentOf(t, made)
	for _, quick := range []time.Duration{time.Hour, 0, 0, time.Hour, time.Hour} {
		f.quick = quick
		if n, err := f.WriteAt([]byte("group"), 0); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		if f.slow != (quick == 0) {
			t.Errorf("a write that may take %v: the next is told of: %v", quick, f.slow)
		}
	}
}

func segmentOf(t *testing.T, f *os.File) *quickFile {
	t.Helper()
	made, err := newSegment(f)
	if err != nil {
		t.Fatal(err)
	}
	return made.(*quickFile)
}
