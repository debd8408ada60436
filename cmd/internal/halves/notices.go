package halves

import (
	"errors"
	"fmt"
	"log/slog"

	"chartgate/internal/profiles"
)

// Notices says how clients and their contacts are told of links, permissions
// and invitations.
type Notices struct {
	Webhook string `name:"notice-webhook" env:"CHARTGATE_NOTICE_WEBHOOK" placeholder:"URL" help:"Where notices to clients are posted, signed with CHARTGATE_NOTICE_SECRET. Without it they are logged."`
}

// Faults lists what is wrong with them.
func (n Notices) Faults(secrets Secrets) []error {
	if n.Webhook == "" && secrets.NoticeSecret != "" {
		return []error{errors.New("--notice-webhook must be set where CHARTGATE_NOTICE_SECRET is")}
	}
	if _, err := n.courier(secrets.NoticeSecret, nil); err != nil {
		return []error{err}
	}
	return nil
}

// courier takes notices to the webhook, or to the log where there is none.
func (n Notices) courier(secret string, log *slog.Logger) (profiles.Courier, error) {
	if n.Webhook == "" {
		return profiles.Log{Log: log}, nil
	}
	hook, err := profiles.NewWebhook(n.Webhook, secret)
	if err != nil {
		return nil, fmt.Errorf("--notice-webhook, CHARTGATE_NOTICE_SECRET: %w", err)
	}
	return hook, nil
}
