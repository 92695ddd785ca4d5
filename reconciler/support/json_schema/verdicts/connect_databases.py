"""Made by docs/compile_schemas.py from schemas/connect/databases.schema.json; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)


def document(data: Any) -> None:
    if not isinstance(data, list):
        raise Unfit
    data_is_list = isinstance(data, list)
    if data_is_list:
        data_len = len(data)
        for data_x, data_item in enumerate(data):
            if not isinstance(data_item, dict):
                raise Unfit
            data_item_is_dict = isinstance(data_item, dict)
            if data_item_is_dict:
                data_item__missing_keys = set(['id', 'name', 'type', 'host', 'port', 'database', 'status']) - data_item.keys()
                if data_item__missing_keys:
                    raise Unfit
                data_item_keys = set(data_item.keys())
                if 'id' in data_item_keys:
                    data_item_keys.remove('id')
                    data_item__id = data_item['id']
                    word(data_item__id)
                if 'name' in data_item_keys:
                    data_item_keys.remove('name')
                    data_item__name = data_item['name']
                    word(data_item__name)
                if 'type' in data_item_keys:
                    data_item_keys.remove('type')
                    data_item__type = data_item['type']
                    word(data_item__type)
                if 'host' in data_item_keys:
                    data_item_keys.remove('host')
                    data_item__host = data_item['host']
                    word(data_item__host)
                if 'port' in data_item_keys:
                    data_item_keys.remove('port')
                    data_item__port = data_item['port']
                    if not isinstance(data_item__port, int) and (not (isinstance(data_item__port, float) and data_item__port.is_integer())) or isinstance(data_item__port, bool):
                        raise Unfit
                    if isinstance(data_item__port, (int, float)) and (not isinstance(data_item__port, bool)):
                        if data_item__port < 1:
                            raise Unfit
                        if data_item__port > 65535:
                            raise Unfit
                if 'database' in data_item_keys:
                    data_item_keys.remove('database')
                    data_item__database = data_item['database']
                    word(data_item__database)
                if 'status' in data_item_keys:
                    data_item_keys.remove('status')
                    data_item__status = data_item['status']
                    word(data_item__status)
                if 'created_at' in data_item_keys:
                    data_item_keys.remove('created_at')
                    data_item__createdat = data_item['created_at']
                    text(data_item__createdat)
                if 'size_mb' in data_item_keys:
                    data_item_keys.remove('size_mb')
                    data_item__sizemb = data_item['size_mb']
                    if not (is_number(data_item__sizemb) or isinstance(data_item__sizemb, NoneType)) or isinstance(data_item__sizemb, bool):
                        raise Unfit
                    if isinstance(data_item__sizemb, (int, float)) and (not isinstance(data_item__sizemb, bool)):
                        if data_item__sizemb < 0:
                            raise Unfit
                if 'connection_limit' in data_item_keys:
                    data_item_keys.remove('connection_limit')
                    data_item__connectionlimit = data_item['connection_limit']
                    if not isinstance(data_item__connectionlimit, (int, NoneType)) and (not (isinstance(data_item__connectionlimit, float) and data_item__connectionlimit.is_integer())) or isinstance(data_item__connectionlimit, bool):
                        raise Unfit
                if 'backup_enabled' in data_item_keys:
                    data_item_keys.remove('backup_enabled')
                    data_item__backupenabled = data_item['backup_enabled']
                    if not isinstance(data_item__backupenabled, (bool, NoneType)):
                        raise Unfit
                if 'last_backup' in data_item_keys:
                    data_item_keys.remove('last_backup')
                    data_item__lastbackup = data_item['last_backup']
                    text(data_item__lastbackup)

def text(data: Any) -> None:
    if not (is_text(data) or isinstance(data, NoneType)):
        raise Unfit
    if isinstance(data, str):
        if not matches('^[^\\u0000]*$', data):
            raise Unfit

def word(data: Any) -> None:
    if not is_text(data):
        raise Unfit
    if isinstance(data, str):
        if not matches('^[^\\u0000]+$', data):
            raise Unfit
