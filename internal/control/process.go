// SPDX-License-Identifier: Apache-2.0

package control

import "time"

// A Process is what any daemon says of itself in its answer to CommandShow.
type Process struct {
	// Program and Version are what -V prints of the daemon.
	Program string `json:"program"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Started is when the daemon started.
	Started time.Time `json:"started"`
	// UptimeSeconds is how long ago that is, by a clock that nobody sets.
	UptimeSeconds int64 `json:"uptime_seconds"`
	// ConfigFiles are the files that were read, in that order.
	ConfigFiles []string `json:"config_files,omitempty"`
	// LogLinesLost counts the lines that the log destination was too slow for.
	LogLinesLost uint64 `json:"log_lines_lost"`
	// Checks are the start-up checks that failed.
	Checks []Check `json:"checks,omitempty"`
}
