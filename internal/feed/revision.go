package feed

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Querier is what feed needs of a pool or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Deployment is one database of Chartgate: its identity, and the secret that
// its services share. It makes and reads revision tokens and seals what is kept
// outside of the database.
type Deployment struct {
	ID     uuid.UUID
	secret []byte
	macs   sync.Pool // of hash.Hash under secret: making one costs as much as a seal
}

// ReadDeployment reads which deployment the database is.
func ReadDeployment(ctx context.Context, q Querier) (*Deployment, error) {
	d := &Deployment{}
	if err := q.QueryRow(ctx, `SELECT id, secret FROM deployment`).Scan(&d.ID, &d.secret); err != nil {
		return nil, fmt.Errorf("read deployment: %w", err)
	}
	if len(d.secret) < 32 {
		return nil, fmt.Errorf("read deployment: the secret has %d bytes, want 32", len(d.secret))
	}
	return d, nil
}

// SealSize is the length of a seal, in bytes: how much of the HMAC is kept.
const SealSize = 16

// Seal returns an HMAC-SHA-256 over purpose and data, cut to 128 bits. Things
// sealed for one purpose are never valid for another.
func (d *Deployment) Seal(purpose string, data ...[]byte) []byte {
	mac, ok := d.macs.Get().(hash.Hash)
	if !ok {
		mac = hmac.New(sha256.New, d.secret)
	}
	defer d.macs.Put(mac)
	mac.Reset()
	mac.Write(d.ID[:])
	var size [4]byte
	write := func(part []byte) {
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		mac.Write(size[:])
		mac.Write(part)
	}
	write([]byte(purpose))
	for _, part := range data {
		write(part)
	}
	return mac.Sum(nil)[:SealSize]
}

// Sealed reports, in constant time, whether seal is the one of purpose and data.
func (d *Deployment) Sealed(seal []byte, purpose string, data ...[]byte) bool {
	return hmac.Equal(seal, d.Seal(purpose, data...))
}

// Token writes the revision token of s (DESIGN 11, Headers): opaque to callers.
func (d *Deployment) Token(s Snapshot) string {
	text := []byte(s.String())
	return base64.RawURLEncoding.EncodeToString(append(d.Seal("revision", text), text...))
}

// ParseToken reads a revision token that this deployment wrote.
func (d *Deployment) ParseToken(token string) (Snapshot, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < SealSize || len(raw) > 1<<16 {
		return Snapshot{}, fmt.Errorf("not a revision token")
	}
	seal, text := raw[:SealSize], bytes.Clone(raw[SealSize:])
	if !d.Sealed(seal, "revision", text) {
		return Snapshot{}, fmt.Errorf("not a revision token of this deployment")
	}
	return ParseSnapshot(string(text))
}

// Revision returns the token of what q sees now. Taken after a change was
// committed, it names facts that hold the change.
func (d *Deployment) Revision(ctx context.Context, q Querier) (string, error) {
	var text string
	if err := q.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		return "", fmt.Errorf("read revision: %w", err)
	}
	s, err := ParseSnapshot(text)
	if err != nil {
		return "", err
	}
	return d.Token(s), nil
}
