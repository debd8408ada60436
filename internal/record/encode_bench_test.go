package record

import "testing"

func BenchmarkEncode(b *testing.B) {
	v := sample(1)
	buffer := make([]byte, 0, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := appendBody(buffer, &v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLink is what the chain costs the shipper for one decision.
func BenchmarkLink(b *testing.B) {
	v := sample(1)
	body, err := appendBody(nil, &v)
	if err != nil {
		b.Fatal(err)
	}
	var l linker
	var head hash
	b.ReportAllocs()
	for b.Loop() {
		head = l.next(head, 1, linkDecision, body)
	}
}
