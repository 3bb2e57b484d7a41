// SPDX-License-Identifier: Apache-2.0

package logging

// WithSocket returns o with a syslog that listens at path.
func (o Options) WithSocket(path string) Options {
	o.socket = path
	return o
}
