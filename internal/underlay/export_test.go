// SPDX-License-Identifier: Apache-2.0

package underlay

// OpenDevicesWithBuffer is OpenDevices with a receive buffer of so many bytes.
var OpenDevicesWithBuffer = openDevices
