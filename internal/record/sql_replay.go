package record

const (
	countDecisions    = `SELECT count(*) FROM decisions d`
	selectBodies      = `SELECT d.body FROM decisions d`
	selectAllSettings = `SELECT digest, text FROM record_settings`
)
