package main

import (
	"context"
	"fmt"
	"os"

	"chartgate/internal/postgres"
)

// migrateCommand migrates. The halves' passwords come from the environment, so
// that each can log in as its own role: CHARTGATE_SIDECAR_PASSWORD and
// CHARTGATE_CONTROL_PASSWORD.
type migrateCommand struct {
	storeFlags
}

// Help is shown by --help.
func (migrateCommand) Help() string {
	return "Set CHARTGATE_SIDECAR_PASSWORD and CHARTGATE_CONTROL_PASSWORD to let the roles " +
		postgres.RoleSidecar + " and " + postgres.RoleControl + " log in with these passwords."
}

// Run migrates and sets the passwords that are given.
func (c *migrateCommand) Run(ctx context.Context) error {
	return c.with(ctx, func(url string) error {
		version, err := postgres.Migrate(ctx, url)
		if err != nil {
			return err
		}
		fmt.Println("the schema is at version", version)
		for role, variable := range map[string]string{
			postgres.RoleSidecar: "CHARTGATE_SIDECAR_PASSWORD",
			postgres.RoleControl: "CHARTGATE_CONTROL_PASSWORD",
		} {
			password := os.Getenv(variable)
			if password == "" {
				continue
			}
			if err := postgres.SetPassword(ctx, url, role, password); err != nil {
				return fmt.Errorf("%s: %w", variable, err)
			}
			fmt.Println("the password of", role, "is set")
		}
		return nil
	})
}
