package record

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Stats counts what a spool and its shipper do. All of it may be read at any
// time; metrics are made of it.
type Stats struct {
	Recorded     atomic.Int64 // decisions made durable since the start
	Refused      atomic.Int64 // calls of Record that were refused
	Groups       atomic.Int64 // groups written
	Syncs        atomic.Int64 // syncs to the disk
	DepthBytes   atomic.Int64 // in the spool and not yet in Postgres
	DepthRecords atomic.Int64
	Shipped      atomic.Int64 // decisions brought to Postgres since the start
	Batches      atomic.Int64 // transactions that brought them
	ShipFailures atomic.Int64 // tries that failed, and were or will be made again
	Lost         atomic.Int64 // decisions that were recorded and can be found no more: must stay 0
	LastGroup    atomic.Int64 // decisions in the group written last
	oldest       atomic.Int64 // when the oldest decision under way was made, in microseconds; 0 for none
	groupsOfUpTo [12]atomic.Int64
}

// OldestUnshipped is how long the oldest decision that is not yet in Postgres
// has waited, 0 when there is none. It may be behind by one round of the shipper.
func (s *Stats) OldestUnshipped() time.Duration {
	at := s.oldest.Load()
	if at == 0 || s.DepthRecords.Load() == 0 {
		return 0
	}
	return max(0, time.Since(time.UnixMicro(at)))
}

// GroupSizes returns how many groups held up to 1, 2, 4, … 2048 decisions, each
// count without those before it; larger ones are in the last.
func (s *Stats) GroupSizes() [12]int64 {
	var sizes [12]int64
	for i := range sizes {
		sizes[i] = s.groupsOfUpTo[i].Load()
	}
	return sizes
}

func (s *Stats) wrote(records uint32, size int64) {
	s.Recorded.Add(int64(records))
	s.DepthRecords.Add(int64(records))
	s.DepthBytes.Add(size)
	s.Groups.Add(1)
	s.LastGroup.Store(int64(records))
	s.groupsOfUpTo[min(bits.Len32(max(records, 1)-1), len(s.groupsOfUpTo)-1)].Add(1)
}
