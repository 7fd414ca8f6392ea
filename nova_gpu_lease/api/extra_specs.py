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


"""Validators of the ``gpu_lease:*`` flavor extra specs.

Nova finds them by the entry point ``nova.api.extra_spec_validators`` and
applies them when a flavor's extra specs are set with microversion 2.86 or
later. What older calls let in is found when a server is created.
"""

from nova.api.validation.extra_specs import base
from nova import exception as nova_exception

from nova_gpu_lease.conf import CONF
from nova_gpu_lease import duration
from nova_gpu_lease import exception
from nova_gpu_lease import priorities
from nova_gpu_lease import states
from nova_gpu_lease import terms


class DurationValidator(base.ExtraSpecValidator):
    """A validator with the grammar of the hints."""

    def validate(self, name, value):
        super().validate(name, value)
        try:
            duration.parse(value)
        except exception.InvalidDuration as exc:
            raise nova_exception.ValidationError(
                "Validation failed; %s" % exc.format_message())


class PriorityValidator(base.ExtraSpecValidator):
    """A validator that knows the classes of ``[gpu_lease] priorities``."""

    def validate(self, name, value):
        super().validate(name, value)
        classes = priorities.parse(CONF.gpu_lease.priorities)
        if value not in classes:
            raise nova_exception.ValidationError(
                "Validation failed; '%s' is no priority class; use %s." %
                (value, ' or '.join(classes)))


def _duration(name, description):
    return DurationValidator(
        name=name, description=description,
        value={'type': str, 'description': 'For example ``90s``, ``30m``, '
               '``2h``, ``1d12h`` or ``PT2H``; a whole number is minutes.'})


VALIDATORS = [
    _duration(
        terms.SPEC_DEFAULT_DURATION,
        'How long a lease lasts when the server has no hint ``gpu_lease``.'),
    _duration(
        terms.SPEC_MAX_DURATION,
        'The longest lease, extensions included. The smaller of this and '
        'the option ``[gpu_lease] max_duration`` binds.'),
    base.ExtraSpecValidator(
        name=terms.SPEC_ON_EXPIRY,
        description='What happens to the server when its lease ends, unless '
        'its hint ``gpu_lease_on_expiry`` says otherwise.',
        value={'type': str, 'enum': list(states.ON_EXPIRY),
               'description': '``shelve`` keeps the work, ``delete`` does '
               'not.'}),
    _duration(
        terms.SPEC_END_WHEN_OFF,
        'How long a server may be powered off until its lease ends early. '
        'Goes before the option ``[gpu_lease] end_when_off``.'),
    PriorityValidator(
        name=terms.SPEC_PRIORITY,
        description='The priority class, unless the hint '
        '``gpu_lease_priority`` says otherwise.',
        value={'type': str, 'description': 'One of the classes of the '
               'option ``[gpu_lease] priorities``.'}),
    base.ExtraSpecValidator(
        name=terms.SPEC_REQUIRED,
        description='Whether servers are refused without the hint '
        '``gpu_lease``.',
        value={'type': bool, 'description': 'Whether it is required.'}),
]


def register():
    """The entry point's function.

    :returns: a list of nova.api.validation.extra_specs.base
        .ExtraSpecValidator.
    """
    return VALIDATORS
