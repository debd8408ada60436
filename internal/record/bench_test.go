package record_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/record"
)

// many are ordinary decisions, made once.
var many = func() []authz.Verdict {
	list := make([]authz.Verdict, 1000)
	for i := range list {
		list[i] = record.Sample(i)
	}
	return list
}()

// BenchmarkRecord is one call of Record from as many callers as a sidecar has
// connections, with nothing shipped meanwhile.
func BenchmarkRecord(b *testing.B) {
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("%d callers", callers), func(b *testing.B) {
			spool := openSpool(b, b.TempDir(), record.Options{SyncInterval: 100 * time.Millisecond, MaxBytes: 1 << 40})
			b.ReportAllocs()
			b.SetParallelism(callers / 2)
			if callers == 1 {
				for i := 0; b.Loop(); i++ {
					if err := spool.Record(context.Background(), many[i%len(many)]); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(p *testing.PB) {
					for i := 0; p.Next(); i++ {
						if err := spool.Record(context.Background(), many[i%len(many)]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(spool.Stats().Recorded.Load())/float64(spool.Stats().Groups.Load()), "records/group")
		})
	}
}

// BenchmarkRecordBatch is one call with 1,000 decisions; the time is that of one.
func BenchmarkRecordBatch(b *testing.B) {
	spool := openSpool(b, b.TempDir(), record.Options{SyncInterval: 100 * time.Millisecond, MaxBytes: 1 << 40})
	b.ReportAllocs()
	for b.Loop() {
		if err := spool.Record(context.Background(), many...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(many)), "ns/record")
}

// BenchmarkRead reads decisions from a segment, on one core: the first column of
// replay.
func BenchmarkRead(b *testing.B) {
	folder := b.TempDir()
	spool := openSpool(b, folder, record.Options{SyncInterval: time.Hour})
	for range 40 {
		if err := spool.Record(context.Background(), many...); err != nil {
			b.Fatal(err)
		}
	}
	if err := spool.Close(); err != nil {
		b.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(folder, "*", "*.seg"))
	whole, err := os.ReadFile(files[0])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("columns", func(b *testing.B) { readAll(b, whole, func(*record.Reader, *record.View) error { return nil }) })
	b.Run("documents", func(b *testing.B) {
		readAll(b, whole, func(r *record.Reader, v *record.View) error { _, err := r.Document(v); return err })
	})
}

// readAll reads the segment over and over; b.N counts decisions.
func readAll(b *testing.B, whole []byte, each func(*record.Reader, *record.View) error) {
	b.ReportAllocs()
	b.SetBytes(int64(len(whole) / (40 * len(many))))
	var v record.View
	var r *record.Reader
	var allowed int
	for b.Loop() {
		for {
			if r == nil {
				var err error
				if r, err = record.NewReader(bytes.NewReader(whole)); err != nil {
					b.Fatal(err)
				}
			}
			err := r.Next(&v)
			if errors.Is(err, io.EOF) {
				r = nil
				continue
			}
			if err != nil {
				b.Fatal(err)
			}
			break
		}
		if v.Allow && string(v.Action) == "note.read" {
			allowed++
		}
		if err := each(r, &v); err != nil {
			b.Fatal(err)
		}
	}
	if allowed == 0 {
		b.Error("nothing was read")
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkShip brings what a spool holds to Postgres; b.N counts decisions.
func BenchmarkShip(b *testing.B) {
	s := setup(b)
	spool := openSpool(b, b.TempDir(), record.Options{SyncInterval: time.Hour, MaxBytes: 1 << 40})
	shipper := record.NewShipper(spool, s.sidecar)
	b.ReportAllocs()
	for left := b.N; left > 0; left -= len(many) {
		if err := spool.Record(context.Background(), many[:min(left, len(many))]...); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	before := ownCPU(b)
	if err := shipper.Drain(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((ownCPU(b)-before).Nanoseconds())/float64(b.N), "own-cpu-ns/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkSustained records and ships at once, with a spool that may hold 16
// MiB: callers who are refused wait and try again, so that what comes out is
// the rate at which the spool stays flat. Use it with -benchtime of a million
// and more.
func BenchmarkSustained(b *testing.B) {
	s := setup(b)
	spool := openSpool(b, b.TempDir(), record.Options{SyncInterval: 100 * time.Millisecond, MaxBytes: 16 << 20})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- record.NewShipper(spool, s.sidecar).Run(ctx) }()
	before := ownCPU(b)
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			for spool.Record(ctx, many[i%len(many)]) != nil {
				time.Sleep(time.Millisecond)
			}
		}
	})
	elapsed := b.Elapsed().Seconds()
	deep := spool.Stats().DepthRecords.Load()
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	if shipped := spool.Stats().Shipped.Load(); shipped != int64(b.N) {
		b.Errorf("%d of %d were shipped", shipped, b.N)
	}
	b.ReportMetric(float64((ownCPU(b)-before).Nanoseconds())/float64(b.N), "own-cpu-ns/record")
	b.ReportMetric(float64(b.N)/elapsed, "records/s")
	b.ReportMetric(float64(deep), "waiting-at-end")
}

// BenchmarkVerify follows the chain of b.N decisions.
func BenchmarkVerify(b *testing.B) {
	s := setup(b)
	spool := openSpool(b, b.TempDir(), record.Options{SyncInterval: time.Hour, MaxBytes: 1 << 40})
	for left := b.N; left > 0; left -= len(many) {
		if err := spool.Record(context.Background(), many[:min(left, len(many))]...); err != nil {
			b.Fatal(err)
		}
	}
	ship(b, spool, s.sidecar)
	b.ResetTimer()
	if report := s.verify(record.VerifyOptions{}); len(report.Findings) > 0 || report.Decisions != int64(b.N) {
		b.Fatalf("%d decisions, %v", report.Decisions, report.Findings)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// ownCPU is what this process has used so far; Postgres is another one.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
