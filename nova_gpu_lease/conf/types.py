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

"""Option types that the groups share."""

from oslo_config import cfg
from oslo_config import types

from nova_gpu_lease import duration
from nova_gpu_lease import exception


class Duration(types.ConfigType):
    """An option type: seconds, written as in the hints (``2h``).

    :param zero: whether ``0s`` is accepted too.
    """

    def __init__(self, zero=False):
        super().__init__(type_name='duration value')
        self.zero = zero

    def __call__(self, value):
        if self.zero and value in ('0', '0s'):
            return 0
        try:
            return duration.parse(value)
        except exception.InvalidDuration as exc:
            raise ValueError(str(exc))

    def __repr__(self):
        return 'Duration'

    def __eq__(self, other):
        return (self.__class__ == other.__class__ and
                self.zero == other.zero)

    def _formatter(self, value):
        return value if isinstance(value, str) else duration.format(value)


def duration_opt(name, default=None, zero=False, **kwargs):
    return cfg.Opt(name, type=Duration(zero), default=default, **kwargs)
