package release

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"chartgate/internal/pdp"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// Signer signs bundles with an Ed25519 key.
type Signer struct {
	key ed25519.PrivateKey
	id  string // pdp.KeyID of its public half
}

// NewSigner makes a signer with a new key.
func NewSigner() (*Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return newSigner(key)
}

func newSigner(key ed25519.PrivateKey) (*Signer, error) {
	id, err := pdp.KeyID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, id: id}, nil
}

// ReadSigner reads a private key: one PEM block of PKCS#8, as `chartgate policy
// keygen` and `openssl genpkey -algorithm ed25519` write it.
func ReadSigner(text []byte) (*Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("want a private key in PEM form (-----BEGIN PRIVATE KEY-----)")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("there is more than one key in it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is not PKCS#8") // the error might show some of it
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the private key is %T: want Ed25519", parsed)
	}
	return newSigner(key)
}

// ID names the key.
func (s *Signer) ID() string { return s.id }

// Private returns the private key in the form that ReadSigner reads.
func (s *Signer) Private() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Public returns the public key in the form that pdp.ReadKeys reads.
func (s *Signer) Public() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Sign puts seal into a bundle's manifest and signs all of its files the way OPA
// does (.signatures.json), so that a stock OPA with the public key takes it too.
// A signature that is there already is replaced. The files must be what the seal
// says they are.
func (s *Signer) Sign(archive []byte, seal pdp.Seal) ([]byte, error) {
	files, err := pdp.Unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	delete(files, ".signatures.json")
	seal.Scope = pdp.SignatureScope
	if content := pdp.Content(files); content != seal.Content {
		return nil, fmt.Errorf("sign bundle: its files are %s, the seal says %s", content, seal.Content)
	}
	if files[".manifest"], err = withSeal(files[".manifest"], seal); err != nil {
		return nil, fmt.Errorf("sign bundle: manifest: %w", err)
	}
	if files[".signatures.json"], err = s.signature(files); err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	return pack(files)
}

func withSeal(manifest []byte, seal pdp.Seal) ([]byte, error) {
	var m map[string]any
	if err := util.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	m["metadata"] = map[string]any{"chartgate": seal}
	return json.Marshal(m)
}

// signature is OPA's .signatures.json: one JWT over the digest of every file.
func (s *Signer) signature(files map[string][]byte) ([]byte, error) {
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		return nil, err
	}
	list := []bundle.FileInfo{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var content any = files[name]
		if bundle.IsStructuredDoc(name) {
			if err := util.Unmarshal(files[name], &content); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		digest, err := hasher.HashFile(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, bundle.NewFile(name, hex.EncodeToString(digest), bundle.SHA256.String()))
	}
	claims, err := json.Marshal(map[string]any{"files": list, "scope": pdp.SignatureScope, "keyid": s.id, "iss": shippedBy, "iat": time.Now().Unix()})
	if err != nil {
		return nil, err
	}
	headers := jws.NewHeaders()
	if err := headers.Set(jws.KeyIDKey, s.id); err != nil {
		return nil, err
	}
	token, err := jws.Sign(claims, jws.WithKey(jwa.EdDSA(), s.key, jws.WithProtectedHeaders(headers)))
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"signatures": []string{string(token)}})
}
