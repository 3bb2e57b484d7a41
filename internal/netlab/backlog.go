// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// BacklogDrops returns how many packets this machine's CPUs have dropped since
// it started because their queue of received packets was full (column 2 of
// /proc/net/softnet_stat, net.core.netdev_max_backlog). All namespaces share these
// queues: what others send may cost a lab packets that none of its programs has
// ever seen.
func BacklogDrops() (int, error) {
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	sum := 0
	for line := range strings.Lines(string(b)) {
		columns := strings.Fields(line)
		if len(columns) < 2 {
			return 0, fmt.Errorf("read /proc/net/softnet_stat: %q is short", line)
		}
		n, err := strconv.ParseUint(columns[1], 16, 32)
		if err != nil {
			return 0, fmt.Errorf("read /proc/net/softnet_stat: %w", err)
		}
		sum += int(n)
	}
	return sum, nil
}
