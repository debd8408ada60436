package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/postgres"
	"chartgate/internal/record"
)

// recordHold keeps entries of the record from being purged (DOMAIN rule 125).
type recordHold struct {
	Place   holdPlace   `cmd:"" help:"Keep the entries of a client, or of a whole practice, until the hold is released."`
	List    holdList    `cmd:"" help:"List all legal holds, those that were released as well."`
	Release holdRelease `cmd:"" help:"End a legal hold."`
}

type holdPlace struct {
	Practice string `required:"" placeholder:"PRACTICE" help:"The practice."`
	Client   string `placeholder:"CLIENT" help:"Only the entries of this client."`
	Actor    string `required:"" placeholder:"USER" help:"The user id of who places it."`
	Reason   string `required:"" help:"Why, as the record will say."`
	storeFlags
}

// Run places the hold and prints its id.
func (c *holdPlace) Run(ctx context.Context) error {
	return c.withSchema(ctx, func(pool *pgxpool.Pool) error {
		var id uuid.UUID
		err := postgres.InTx(ctx, pool, func(tx pgx.Tx) (err error) {
			id, err = record.PlaceHold(ctx, tx, record.Read{Actor: c.Actor, Reason: c.Reason}, c.Practice, c.Client)
			return err
		})
		if err == nil {
			fmt.Println(id)
		}
		return err
	})
}

type holdList struct{ storeFlags }

// Run lists the holds, the newest first.
func (c *holdList) Run(ctx context.Context) error {
	return c.withSchema(ctx, func(pool *pgxpool.Pool) error {
		var holds []record.Hold
		err := postgres.InTx(ctx, pool, func(tx pgx.Tx) (err error) {
			holds, err = record.Holds(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tPRACTICE\tCLIENT\tPLACED BY\tPLACED\tRELEASED\tREASON")
		for _, h := range holds {
			released := "no"
			if h.Released != nil {
				released = h.Released.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.ID, h.Practice, h.Client, h.PlacedBy, h.PlacedAt.UTC().Format(time.RFC3339), released, h.Reason)
		}
		return table.Flush()
	})
}

type holdRelease struct {
	ID     uuid.UUID `arg:"" help:"The id that 'hold place' printed."`
	Actor  string    `required:"" placeholder:"USER" help:"The user id of who releases it."`
	Reason string    `required:"" help:"Why, as the record will say."`
	storeFlags
}

// Run ends the hold.
func (c *holdRelease) Run(ctx context.Context) error {
	return c.withSchema(ctx, func(pool *pgxpool.Pool) error {
		return postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
			return record.ReleaseHold(ctx, tx, record.Read{Actor: c.Actor, Reason: c.Reason}, c.ID)
		})
	})
}

// recordPurge removes a month that is older than what must be kept.
type recordPurge struct {
	Month time.Time `arg:"" format:"2006-01" placeholder:"MONTH" help:"The month (UTC), such as 2019-04. Entries younger than six years, or under a legal hold, are refused."`
	storeFlags
}

// Run removes the month's entries; the links of the chains stay.
func (c *recordPurge) Run(ctx context.Context) error {
	return c.withSchema(ctx, func(pool *pgxpool.Pool) error {
		decisions, changes, err := record.Purge(ctx, pool, c.Month)
		if err == nil {
			fmt.Printf("%s: %d decisions and %d changes removed\n", c.Month.Format("2006-01"), decisions, changes)
		}
		return err
	})
}
