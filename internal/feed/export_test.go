package feed

import "strconv"

// Number writes a transaction id as Postgres does.
func Number(xid uint64) string { return strconv.FormatUint(xid, 10) }
