package profiles

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Headers of a notice that is sent to a webhook.
const (
	HeaderNoticeID  = "Chartgate-Notice-Id"
	HeaderSignature = "Chartgate-Signature"
)

// MinSecret is the length of the shortest secret of a webhook, in bytes.
const MinSecret = 16

// Webhook is the Courier that posts notices to a URL as JSON. Each carries
// "t=<Unix seconds>,v1=<hex>" in HeaderSignature: the HMAC-SHA-256 of
// "<Unix seconds>.<body>" under the shared secret. Any 2xx means delivered.
type Webhook struct {
	url    string
	secret []byte
	client *http.Client
	now    func() time.Time
}

// NewWebhook returns a Webhook to address.
func NewWebhook(address, secret string) (*Webhook, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("a webhook needs an address such as https://mail.example.com/notices")
	}
	if len(secret) < MinSecret {
		return nil, fmt.Errorf("the secret of a webhook must be at least %d characters long", MinSecret)
	}
	client := &http.Client{Timeout: deliverLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Webhook{url: address, secret: []byte(secret), client: client, now: time.Now}, nil
}

// Deliver posts n.
func (w *Webhook) Deliver(ctx context.Context, n Notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write notice: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send notice: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(HeaderNoticeID, strconv.FormatInt(n.ID, 10))
	r.Header.Set(HeaderSignature, Sign(w.secret, w.now(), body))
	answer, err := w.client.Do(r)
	if err != nil {
		return fmt.Errorf("send notice: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection is used again
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("send notice: the webhook answered %d", answer.StatusCode)
	}
	return nil
}

// Sign returns the signature of a body that is sent at a time.
func Sign(secret []byte, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
