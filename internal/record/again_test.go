package record

import (
	"bytes"
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// What follows a precedent is recorded as if it were on its own, whichever of the
// verdicts was written first.
func TestWhatFollowsAPrecedentIsRecordedAsIfAlone(t *testing.T) {
	copied := 0
	rapid.Check(t, func(t *rapid.T) {
		v := anyVerdict.Draw(t, "verdict")
		set := &authz.Precedent{}
		for range 4 {
			v.ID = uuid.New()
			v.At = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at"))
			v.RequestID = rapid.SampledFrom([]string{"", "request-1", "no id\x00", "request-22"}).Draw(t, "request id")
			v.Facts.Revision = orNothing.Draw(t, "revision")
			v.Facts.Now, v.Facts.Latest = moments.Draw(t, "now"), moments.Draw(t, "latest")
			v.Precedent = nil
			want, err := appendBody([]byte("before"), &v)
			if err != nil {
				t.Fatal(err)
			}
			if v.Precedent = set; set.Entry.Load() != nil && entriesLike(&v) != nil {
				copied++
			}
			if got, err := appendBody([]byte("before"), &v); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v\n%x, want\n%x", err, got, want)
			}
		}
	})
	if copied == 0 {
		t.Error("no entry was copied: nothing was tested")
	}
}

// A verdict that cannot be recorded leaves nothing for others to copy, and one
// that follows a precedent is refused for what is its own.
func TestWhatIsRefusedIsNotCopied(t *testing.T) {
	v := authz.NewVerdict(authz.Request{}, "\xff", "")
	v.Facts.Now, v.Facts.Latest, v.Precedent = time.Now(), time.Now(), &authz.Precedent{}
	if _, err := appendBody(nil, &v); err == nil || v.Precedent.Entry.Load() != nil {
		t.Errorf("%v, kept %v", err, v.Precedent.Entry.Load())
	}
	v.Release = "sha256:0123456789ab"
	if _, err := appendBody(nil, &v); err != nil || v.Precedent.Entry.Load() == nil {
		t.Fatalf("%v, kept %v", err, v.Precedent.Entry.Load())
	}
	v.Facts.Revision = "\xff"
	if _, err := appendBody(nil, &v); err == nil {
		t.Error("a revision that is not UTF-8 was recorded")
	}
	v.Facts.Revision, v.At = "", time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := appendBody(nil, &v); err == nil {
		t.Error("a year that nobody can write was recorded")
	}
}
