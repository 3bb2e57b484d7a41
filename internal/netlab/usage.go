// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// CPU returns the seconds that a process has run so far, in user and in system
// mode (proc_pid_stat(5), fields 14 and 15).
func (p *Process) CPU() (user, system float64, err error) {
	// USER_HZ is 100 on all architectures that Go runs on.
	const ticksPerSecond = 100
	name := fmt.Sprintf("/proc/%d/stat", p.PID())
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest) // from field 3 on
	if len(f) < 13 {
		return 0, 0, fmt.Errorf("%s: too short", name)
	}
	u, err1 := strconv.ParseFloat(f[11], 64)
	s, err2 := strconv.ParseFloat(f[12], 64)
	return u / ticksPerSecond, s / ticksPerSecond, errors.Join(err1, err2)
}

// Memory returns a figure of a process, such as VmRSS, in MB of 2^20 bytes
// (proc_pid_status(5)).
func (p *Process) Memory(figure string) (float64, error) {
	name := fmt.Sprintf("/proc/%d/status", p.PID())
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, figure+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("%s: no line %s", name, figure)
}
