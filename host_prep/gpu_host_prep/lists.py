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

"""Lists of numbers as the kernel writes them: ``0-3,8``."""


def parse(text):
    """Read a list.

    :returns: a sorted tuple of numbers
    :raises: ValueError if the text is not such a list
    """
    numbers = set()
    for part in filter(None, (each.strip() for each in text.split(','))):
        first, dash, last = part.partition('-')
        low = int(first)
        high = int(last) if dash else low
        if high < low:
            raise ValueError(f'{part} goes backwards')
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def format(numbers):  # noqa: A001
    """Write a list, with ranges where numbers follow each other."""
    ranges = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ','.join(str(low) if low == high else f'{low}-{high}'
                    for low, high in ranges)
