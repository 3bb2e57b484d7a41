// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// Dump returns c as the text of a configuration file that names every option,
// in the order of the table. Reading it back gives the same Config.
func (c *Config) Dump() string {
	var b strings.Builder
	for i := range table {
		if o := &table[i]; !o.Obsolete {
			v := o.Value(c)
			if strings.ContainsAny(v, "#;") {
				v = `"` + v + `"`
			}
			fmt.Fprintf(&b, "%s = %s\n", o.Name, v)
		}
	}
	return b.String()
}
