"""What comes in from outside: mails, calls, chats and calendar entries, each put on the right records.

`parsing` reads a mail, whatever somebody put into it; `matching` finds the records that it is about; `filing`
writes it down there, once, however often it arrives; `tray` keeps what could not be matched; `events` takes
calls and chats, and `calendars` what is in an `.ics` file.
"""
