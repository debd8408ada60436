package facts

import (
	"encoding/binary"

	"chartgate/internal/feed"
)

// entryVersion is raised when the stored form changes, so that entries of other
// builds are not read.
const entryVersion = "facts/3"

// key is where the entry of a stands in Redis. It carries the server's identity
// and timeline, so that a restored or failed-over database never meets entries
// of another history (freshness, schedule 7).
func (a ask) key(identity string) string {
	return "chartgate:" + identity + ":" + entryVersion + ":" + a.client + "\x1f" + a.practice + "\x1f" + a.user + "\x1f" + a.login
}

// encodeEntry writes what was loaded for a key: seal, length of the snapshot,
// snapshot, known. The seal binds it to the key, so that an entry which turns
// up under another key is rubbish.
func encodeEntry(d *feed.Deployment, key string, l loaded) []byte {
	snapshot := l.snapshot.String()
	payload := binary.BigEndian.AppendUint32(make([]byte, 0, 512), uint32(len(snapshot)))
	payload = l.known.append(append(payload, snapshot...))
	return append(d.Seal("entry", []byte(key), payload), payload...)
}

// decodeEntry reads an entry; false means that it is rubbish.
func decodeEntry(d *feed.Deployment, key, raw string) (known, feed.Snapshot, bool) {
	if len(raw) < feed.SealSize+4 {
		return known{}, feed.Snapshot{}, false
	}
	seal, payload := raw[:feed.SealSize], raw[feed.SealSize:]
	if !d.Sealed([]byte(seal), "entry", []byte(key), []byte(payload)) {
		return known{}, feed.Snapshot{}, false
	}
	n := int(binary.BigEndian.Uint32([]byte(payload[:4])))
	if n > len(payload)-4 {
		return known{}, feed.Snapshot{}, false
	}
	snapshot, err := feed.ParseSnapshot(payload[4 : 4+n])
	if err != nil {
		return known{}, feed.Snapshot{}, false
	}
	k, err := readKnown(payload[4+n:])
	if err != nil || k.revive() != nil {
		return known{}, feed.Snapshot{}, false
	}
	return k, snapshot, true
}
