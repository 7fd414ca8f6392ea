#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Names of vendors and devices from the system's pci.ids."""

_PLACES = ('/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids',
           '/usr/share/pci.ids', '/var/lib/pciutils/pci.ids')


class Names:
    """The part of pci.ids about vendors and their devices."""

    def __init__(self, text):
        self._vendors, self._devices = {}, {}
        vendor = None
        for line in text.splitlines():
            if line.startswith('C '):
                break           # Classes follow.
            if not line or line[0] == '#' or line.startswith('\t\t'):
                continue
            if line[0] == '\t':
                self._devices[vendor, line[1:5]] = line[5:].strip()
            else:
                vendor = line[:4]
                self._vendors[vendor] = line[4:].strip()

    @classmethod
    def of(cls, root):
        """Read the file of a host; without one there are no names."""
        for place in _PLACES:
            text = root.text(place)
            if text is not None:
                return cls(text)
        return cls('')

    def vendor(self, vendor):
        return self._vendors.get(vendor, '')

    def device(self, vendor, device):
        return self._devices.get((vendor, device), '')
